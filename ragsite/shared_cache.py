"""What all web processes must know of each other, in Redis: failed sign-ins, codes used once.

As JSON, since what others can write is never unpickled. While Redis is away each process remembers
for itself, which must keep nobody from signing in.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.conf import settings
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.cache.backends.locmem import LocMemCache
from redis import Redis, RedisError

from ragsite.limits import REDIS_PAUSE_SECONDS, shared_client

T = TypeVar("T")
logger = logging.getLogger(__name__)
_away_until = 0.0


class SharedCache(BaseCache):
    """Django's default cache, for values that JSON holds."""

    def __init__(self, name: str, params: dict[str, Any]) -> None:
        super().__init__({"KEY_PREFIX": "ragsite:cache", **params})
        self._here = LocMemCache(f"away-{name}", params)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """The value, or the default."""
        name = self.make_and_validate_key(key, version)

        def there(client: Redis) -> Any:
            found = client.get(name)
            return default if found is None else json.loads(found)

        return _either(there, lambda: self._here.get(key, default, version))

    def set(
        self,
        key: str,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> None:
        """Keep it for so many seconds."""
        self._keep(key, value, timeout, version)

    def add(
        self,
        key: str,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> bool:
        """Keep it if nothing is there; whether nothing was. One process alone succeeds."""
        return self._keep(key, value, timeout, version, only_new=True)

    def _keep(
        self,
        key: str,
        value: Any,
        timeout: float | None,
        version: int | None,
        *,
        only_new: bool = False,
    ) -> bool:
        name, text = self.make_and_validate_key(key, version), json.dumps(value)
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout

        def there(client: Redis) -> bool:
            if seconds is not None and seconds <= 0:
                client.delete(name)
                return True
            ms = None if seconds is None else max(1, int(seconds * 1000))
            return bool(client.set(name, text, px=ms, nx=only_new))

        def here() -> bool:
            if only_new:
                return self._here.add(key, value, timeout, version)
            self._here.set(key, value, timeout, version)
            return True

        return _either(there, here)

    def touch(
        self,
        key: str,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> bool:
        """Keep what is there for so many seconds from now; whether it is there."""
        found = self.get(key, version=version)
        return found is not None and self._keep(key, found, timeout, version)

    def delete(self, key: str, version: int | None = None) -> bool:
        """Forget it; whether it was there."""
        name = self.make_and_validate_key(key, version)
        return _either(
            lambda client: bool(client.delete(name)), lambda: self._here.delete(key, version)
        )

    def clear(self) -> None:
        """Forget everything of this cache, and nothing else that Redis holds."""

        def there(client: Redis) -> None:
            for name in client.scan_iter(f"{self.key_prefix}:*"):
                client.delete(name)

        self._here.clear()
        _either(there, lambda: None)


def _either(there: Callable[[Redis], T], here: Callable[[], T]) -> T:
    global _away_until
    if time.monotonic() >= _away_until:
        try:
            return there(shared_client(settings.REDIS_URL))
        except (RedisError, OSError) as exc:
            logger.warning("Redis is away, each web process remembers for itself: %s", exc)
            _away_until = time.monotonic() + REDIS_PAUSE_SECONDS
    return here()
