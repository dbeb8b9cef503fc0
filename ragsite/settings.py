"""Every setting of the site, read from the environment.

A fresh checkout runs without any of them. `docs/configuration.md` describes each
variable; a secret may also be given as a file by adding `_FILE` to its name.
"""

import contextlib
import os
import secrets
from pathlib import Path

import environ
from celery.schedules import crontab
from django.contrib.messages import constants as message_levels
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy
from kombu import Queue

from ragsite.runtime import running_services
from telemetry import logs

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.FileAwareEnv()
environ.Env.read_env(BASE_DIR / ".env")


def _secret_key(data_dir: Path) -> str:
    """The key of the environment, or one made once and kept with the data.

    Raises:
        ImproperlyConfigured: it is one that others could guess.
    """
    path = data_dir / "secret_key"
    if not (given := str(env.str("SECRET_KEY", default=""))):
        if not path.exists():
            # Whole or not there, whoever else starts at the same moment or is killed meanwhile.
            draft = path.with_suffix(f".{os.getpid()}")
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(50))
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
            draft.unlink()
        given = path.read_text().strip()
    is_known = any(word in given.lower() for word in ("insecure", "change", "example", "secret"))
    if is_known or len(given) < 32 or len(set(given)) < 8:
        raise ImproperlyConfigured(
            "SECRET_KEY can be guessed: it is short, or that of an example. Set it to 50 random "
            f"characters, or leave it out and delete {path}, and one is made."
        )
    return given


# --- data and processes ------------------------------------------------------
DATA_DIR = Path(env.str("DATA_DIR", default="") or BASE_DIR / "var").resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True)
_running = running_services(DATA_DIR)


def _service(name: str, default: str) -> str:
    return str(env.str(name, default="")) or _running.get(name, default)


REDIS_URL = _service("REDIS_URL", "redis://127.0.0.1:6379/0")
CHROMA_URL = _service("CHROMA_URL", "http://127.0.0.1:8001")
INFERENCE_URL = _service("INFERENCE_URL", "http://127.0.0.1:8002")
EMBED_URL = env.str("EMBED_URL", default="") or INFERENCE_URL
RERANK_URL = env.str("RERANK_URL", default="") or INFERENCE_URL
WEB_URL = _service("WEB_URL", "http://127.0.0.1:8000")
CHROMA_TOKEN = env.str("CHROMA_TOKEN", default="")
CHROMA_DIR = Path(env.str("CHROMA_DIR", default="") or DATA_DIR / "chroma").resolve()
OLLAMA_HOST = env.str("OLLAMA_HOST", default="http://127.0.0.1:11434")
OLLAMA_MODEL = env.str("OLLAMA_MODEL", default="qwen3:4b-instruct")
OLLAMA_KEEP_ALIVE = env.str("OLLAMA_KEEP_ALIVE", default="5m")
OLLAMA_CONTEXT_TOKENS = env.int("OLLAMA_CONTEXT_TOKENS", default=8192)
OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", default="")
OPENAI_API_KEY = env.str("OPENAI_API_KEY", default="")
OPENAI_MODEL = env.str("OPENAI_MODEL", default="")
OPENAI_CONTEXT_TOKENS = env.int("OPENAI_CONTEXT_TOKENS", default=8192)
OPENAI_PARALLEL = env.int("OPENAI_PARALLEL", default=16)
OLLAMA_PARALLEL = env.int("OLLAMA_PARALLEL", default=1)
GENERATION_QUEUE_MAX = env.int("GENERATION_QUEUE_MAX", default=100)
EXPORT_FONT = env.str("EXPORT_FONT", default="")

# --- models and retrieval ----------------------------------------------------
EMBEDDING_MODEL = env.str("EMBEDDING_MODEL", default="all-MiniLM-L6-v2")
RERANKER = env.str("RERANKER", default="auto")
RERANK_BUDGET_MS = env.int("RERANK_BUDGET_MS", default=2000)

# --- ingestion ---------------------------------------------------------------
UPLOAD_MAX_MB = env.int("UPLOAD_MAX_MB", default=100)
UPLOAD_MAX_FILES = env.int("UPLOAD_MAX_FILES", default=20)
QUOTA_CORPUS_MB = env.int("QUOTA_CORPUS_MB", default=0)
QUOTA_CORPUS_DOCUMENTS = env.int("QUOTA_CORPUS_DOCUMENTS", default=0)
QUOTA_PERSON_MB = env.int("QUOTA_PERSON_MB", default=0)
QUOTA_PERSON_DOCUMENTS = env.int("QUOTA_PERSON_DOCUMENTS", default=0)
DISK_FLOOR_MB = env.int("DISK_FLOOR_MB", default=500)
CHUNK_MAX_TOKENS = env.int("CHUNK_MAX_TOKENS", default=256)
CHUNK_OVERLAP_TOKENS = env.int("CHUNK_OVERLAP_TOKENS", default=32)
PARSE_TIMEOUT_SECONDS = env.int("PARSE_TIMEOUT_SECONDS", default=90)
PARSE_MEMORY_MB = env.int("PARSE_MEMORY_MB", default=1024)
OCR_LANGUAGES = env.str("OCR_LANGUAGES", default="eng")
OCR_TIMEOUT_SECONDS = env.int("OCR_TIMEOUT_SECONDS", default=600)
INGEST_LEASE_SECONDS = env.int("INGEST_LEASE_SECONDS", default=60)

# --- Django ------------------------------------------------------------------
SECRET_KEY = _secret_key(DATA_DIR)
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "unfold",
    # Before ours, which put their own in the place of what these show in the admin panel.
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
    "ragsite",
    "chat",
    "search",
    "ingestion",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_htmx",
    "csp",
]
MIDDLEWARE = [
    "ragsite.middleware.observed",
    "django.middleware.security.SecurityMiddleware",
    "ragsite.middleware.SitePolicy",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "ragsite.middleware.PrivatePages",
    "ragsite.middleware.SignInRequired",
    "ragsite.limits.RateLimits",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "ragsite.urls"
ASGI_APPLICATION = "ragsite.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "ragsite.context.rail",
                "ragsite.context.sign_in",
            ],
        },
    },
]

DATABASES = {
    "default": env.db("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'site.sqlite3'}"),
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
        # What is deleted is overwritten, so that it is gone from the file as well.
        "PRAGMA secure_delete=ON;",
    }
    # Threads of the async views must see the test database too: a file, not :memory:.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
else:
    DATABASES["default"].setdefault("CONN_MAX_AGE", 0)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = [
    "allauth.account.auth_backends.AuthenticationBackend",
    "sesame.backends.ModelBackend",
]
ACCOUNT_ADAPTER = "ragsite.people.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_LOGIN_BY_CODE_ENABLED = False
ACCOUNT_EMAIL_SUBJECT_PREFIX = "ragsite: "
# Counted, and codes used once, in Redis for all web processes; "here" is each one's own.
CACHES = {
    "default": {"BACKEND": "ragsite.shared_cache.SharedCache"},
    "here": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "here"},
}
# Guesses at one account and from one address, together and apart; people from one office share
# an address.
ACCOUNT_RATE_LIMITS = {
    "login_failed": "20/m/ip,5/5m/key",
    "login": "60/m/ip",
    "reset_password": "20/m/ip,3/10m/key",
    "signup": "20/m/ip",
    "reauthenticate": "10/m/user",
    "change_password": "5/m/user",
    "manage_email": "10/m/user",
}
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "ragsite"
# Nobody signs up with the address of somebody else: people come by invitation.
MFA_ALLOW_UNVERIFIED_EMAIL = True
USERSESSIONS_ADAPTER = "ragsite.people.SessionsAdapter"
SOCIALACCOUNT_ADAPTER = "ragsite.people.SocialAccountAdapter"
SOCIALACCOUNT_ONLY = False
OIDC_ISSUER = env.str("OIDC_ISSUER", default="")
OIDC_NAME = env.str("OIDC_NAME", default="") or "single sign-on"
OIDC_CLIENT_ID = env.str("OIDC_CLIENT_ID", default="")
OIDC_CLIENT_SECRET = env.str("OIDC_CLIENT_SECRET", default="")
OIDC_SIGN_UP = env.bool("OIDC_SIGN_UP", default=True)
SOCIALACCOUNT_PROVIDERS: dict[str, dict[str, object]] = {"openid_connect": {"APPS": []}}
if OIDC_ISSUER:
    SOCIALACCOUNT_PROVIDERS["openid_connect"] = {
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [
            {
                "provider_id": "oidc",
                "name": OIDC_NAME,
                "client_id": OIDC_CLIENT_ID,
                "secret": OIDC_CLIENT_SECRET,
                "settings": {"server_url": OIDC_ISSUER},
            }
        ],
    }
OIDC_FORM_TARGETS = ["/".join(OIDC_ISSUER.split("/")[:3])] if OIDC_ISSUER else []
INVITATION_DAYS = env.int("INVITATION_DAYS", default=7)
EMAIL_URL = env.str("EMAIL_URL", default="")
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="ragsite@localhost")
# Without a mail server nothing is sent, and the pages say so.
vars().update(environ.Env.email_url_config(EMAIL_URL or "dummymail://"))
SESAME_ONE_TIME = True
SESAME_MAX_AGE = 24 * 60 * 60
SESAME_TOKEN_NAME = "token"  # noqa: S105 (a parameter's name, not a secret)
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "chat:new"
LOGOUT_REDIRECT_URL = ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"

LANGUAGE_CODE = "en"
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Files are served straight from their folders: no collectstatic step to forget.
SERVESTATIC_USE_FINDERS = True
SERVESTATIC_AUTOREFRESH = DEBUG
SERVESTATIC_ROOT = None

DATA_UPLOAD_MAX_NUMBER_FILES = UPLOAD_MAX_FILES
FILE_UPLOAD_TEMP_DIR = DATA_DIR / "tmp"
FILE_UPLOAD_TEMP_DIR.mkdir(exist_ok=True)
MESSAGE_TAGS = {message_levels.ERROR: "error"}

# --- security ----------------------------------------------------------------
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
HTTPS = env.bool("HTTPS", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=31_536_000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = env.bool("HSTS_ALL", default=True)
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        # Browsers hold the way to single sign-on, a redirect after a form, to be one, too.
        "form-action": ["'self'", *OIDC_FORM_TARGETS],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "object-src": ["'none'"],
    },
}

# How often a person may do what costs much, per minute; 0 for as often as they like.
RATE_LIMITS = {
    "questions": env.int("RATE_QUESTIONS", default=20),
    "searches": env.int("RATE_SEARCHES", default=60),
    "uploads": env.int("RATE_UPLOADS", default=600),
    "exports": env.int("RATE_EXPORTS", default=10),
}

# --- admin panel -------------------------------------------------------------


def _admin_link(title: str, icon: str, name: str, **more: object) -> dict[str, object]:
    return {"title": title, "icon": icon, "link": reverse_lazy(name), **more}


UNFOLD = {
    "SITE_TITLE": "ragsite administration",
    "SITE_HEADER": "ragsite",
    "SITE_SUBHEADER": "Administration",
    "SITE_URL": "/",
    "SITE_ICON": lambda request: static("favicon.svg"),
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("favicon.svg"),
        }
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "10px",
    # The same paper, ink and petrol as static/css/tokens.css.
    "COLORS": {
        "base": {
            "50": "oklch(98.2% .005 95)",
            "100": "oklch(95.7% .008 95)",
            "200": "oklch(89.8% .009 95)",
            "300": "oklch(82% .012 160)",
            "400": "oklch(71.5% .014 200)",
            "500": "oklch(52% .018 228)",
            "600": "oklch(44% .02 228)",
            "700": "oklch(36% .02 228)",
            "800": "oklch(26.8% .016 228)",
            "900": "oklch(20.5% .014 228)",
            "950": "oklch(16.6% .012 228)",
        },
        "primary": {
            "50": "oklch(97% .014 205)",
            "100": "oklch(94.5% .022 205)",
            "200": "oklch(88% .045 205)",
            "300": "oklch(82% .075 200)",
            "400": "oklch(76% .09 200)",
            "500": "oklch(60% .09 205)",
            "600": "oklch(45.5% .082 210)",
            "700": "oklch(40% .075 212)",
            "800": "oklch(34% .06 212)",
            "900": "oklch(29.5% .045 212)",
            "950": "oklch(23% .035 215)",
        },
    },
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {
                "title": "Operation",
                "items": [
                    _admin_link("Overview", "monitoring", "overview"),
                    _admin_link("Queue", "dns", "queue"),
                    _admin_link("Rerankers", "swap_vert", "rerankers"),
                    _admin_link("Query clinic", "healing", "clinic"),
                    _admin_link("Audit log", "history", "admin:ingestion_auditentry_changelist"),
                ],
            },
            {
                "title": "Content",
                "items": [
                    _admin_link("Corpora", "stacks", "admin:ingestion_corpus_changelist"),
                    _admin_link("Documents", "description", "admin:ingestion_document_changelist"),
                    _admin_link(
                        "Index generations",
                        "database",
                        "admin:ingestion_indexgeneration_changelist",
                    ),
                    _admin_link("Deletions", "delete", "admin:ingestion_deletion_changelist"),
                    _admin_link(
                        "Verifications", "fact_check", "admin:ingestion_verification_changelist"
                    ),
                    _admin_link("Conversations", "forum", "admin:chat_conversation_changelist"),
                ],
            },
            {
                "title": "People",
                "items": [
                    _admin_link("People", "person", "admin:auth_user_changelist"),
                    _admin_link("Groups", "group", "admin:auth_group_changelist"),
                    _admin_link("Invitations", "mail", "people"),
                    _admin_link("Shares", "share", "admin:ingestion_share_changelist"),
                    _admin_link(
                        "Judgements", "thumbs_up_down", "admin:search_judgement_changelist"
                    ),
                    _admin_link("Evaluation runs", "labs", "admin:search_evaluationrun_changelist"),
                ],
            },
            {
                "title": "Site",
                "items": [
                    _admin_link("Status", "monitor_heart", "status"),
                    _admin_link("Back to the site", "arrow_back", "home", active=lambda _: False),
                ],
            },
        ],
    },
}

# --- Celery ------------------------------------------------------------------
CELERY_BROKER_URL = REDIS_URL
# What keeps the site in order has a queue of its own: a worker that reads long documents for
# minutes must not keep a broken index from being noticed. A worker without `-Q` serves both.
CELERY_TASK_QUEUES = [Queue("celery"), Queue("upkeep")]
CELERY_TASK_DEFAULT_QUEUE = "celery"
CELERY_TASK_ROUTES = {
    name: {"queue": "upkeep"} for name in ("chat.tasks.diagnose", "search.tasks.resume")
} | {
    f"ingestion.tasks.{name}": {"queue": "upkeep"}
    for name in (
        *("reconcile", "probe", "verify", "erase"),
        *("restore_vectors", "purge_corpus", "purge_generation", "import_corpus"),
    )
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_TASKS_PER_CHILD = 50
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 3600,
    "unacked_restore_throttle": 1,
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    # Publishing gives up at once when Redis is down: 2 ms instead of 6 s, and the row waits.
    "max_retries": 0,
}
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TIMEZONE = TIME_ZONE
VERIFY_HOUR = env.int("VERIFY_HOUR", default=3)
WATCH_FOLDER = env.str("WATCH_FOLDER", default="")
WATCH_SECONDS = env.float("WATCH_SECONDS", default=60.0)
CELERY_BEAT_SCHEDULE = {
    "reconcile": {"task": "ingestion.tasks.reconcile", "schedule": 20.0},
    "probe": {"task": "ingestion.tasks.probe", "schedule": 20.0},
    "watch_folder": {"task": "ingestion.tasks.watch_folder", "schedule": WATCH_SECONDS},
    "verify": {
        "task": "ingestion.tasks.verify",
        "schedule": crontab(hour=str(VERIFY_HOUR), minute="17"),
    },
    "evaluations": {"task": "search.tasks.resume", "schedule": 60.0},
    "diagnose": {"task": "chat.tasks.diagnose", "schedule": crontab(minute="41")},
}

# --- what the operator sees --------------------------------------------------
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
# Counters are shared by all processes with the same data.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(DATA_DIR / "run" / "metrics")
LOGGING = logs.configuration(
    level=env.str("LOG_LEVEL", default="INFO"), form=env.str("LOG_FORMAT", default="line")
)
