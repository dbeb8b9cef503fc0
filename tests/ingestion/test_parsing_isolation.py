"""The child process: what it may not do, and what becomes of its end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from ingestion.errors import ParseError, ParserCrashed
from ingestion.parsing import Format, isolation, parse_in_child, sandbox, wire
from ingestion.parsing.formats import EXTENSIONS, PARSERS
from ingestion.parsing.zygote import Zygote
from ingestion.types import Element, ElementKind, Notice, ParsedDocument
from tests.ingestion.sample_files import Line, docx, p, pdf, write

MEBIBYTE = 1024 * 1024
PROJECT = Path(__file__).resolve().parents[2]
BLOCKS = "import time; time.sleep(60)"


def parsed_in_child(
    path: Path, format_: Format, workdir: Path, *, seconds: int = 20, mebibytes: int = 1024
) -> ParsedDocument:
    return parse_in_child(
        path,
        format=format_,
        timeout_seconds=seconds,
        memory_bytes=mebibytes * MEBIBYTE,
        workdir=workdir,
    )


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def child_that(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Put another program in the place of the parser."""
    used: list[isolation._Zygotes] = []

    def use(program: str) -> None:
        served = (
            "from ingestion.parsing import zygote\n"
            f"def work(arguments, *, parent): exec({program!r}, {{}})\n"
            "zygote.serve({zygote.READ: work}, lambda *_: None)"
        )
        used.append(isolation._Zygotes(lambda: Zygote(("-c", served))))
        monkeypatch.setattr(isolation, "_zygotes", used[-1])

    yield use
    for zygotes in used:
        zygotes.close()


@pytest.mark.parametrize(
    ("format_", "name", "content"),
    [
        (Format.PDF, "a.pdf", pdf([[Line("Hello needle")]])),
        (Format.DOCX, "a.docx", docx(p("Hello needle"))),
        (Format.HTML, "a.html", b"<p>Hello needle"),
        (Format.MARKDOWN, "a.md", b"Hello needle"),
        (Format.TEXT, "a.txt", b"Hello needle"),
    ],
)
def test_every_format_is_read_and_nothing_is_left_behind(
    tmp_path: Path, workdir: Path, format_: Format, name: str, content: bytes
) -> None:
    found = parsed_in_child(write(tmp_path, name, content), format_, workdir)
    assert [e.text for e in found.elements] == ["Hello needle"]
    assert list(workdir.iterdir()) == []


def test_a_refusal_crosses_the_border_as_a_code(tmp_path: Path, workdir: Path) -> None:
    with pytest.raises(ParseError) as caught:
        parsed_in_child(write(tmp_path, "a.pdf", b"%PDF-1.7 nonsense"), Format.PDF, workdir)
    assert caught.value.code == "corrupt"
    assert list(workdir.iterdir()) == []


@pytest.mark.parametrize(
    "program",
    [
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "import sys; sys.exit(3)",
        "print('not JSON')",
        "pass",
        "print('[]')",
        """print('{"error": "made up", "message": ""}')""",
        """print('{"title": "", "pages": -1, "elements": []}')""",
        """print('{"title": "", "pages": 0, "elements": [["verse", "a", null, 0, false]]}')""",
        r"""print('{"title": "\\ud800", "pages": 0, "elements": []}')""",
        "print('[' * 100000)",
    ],
)
def test_death_and_nonsense_are_crashes(
    tmp_path: Path, workdir: Path, child_that: Callable[[str], None], program: str
) -> None:
    child_that(program)
    with pytest.raises(ParserCrashed) as caught:
        parsed_in_child(write(tmp_path, "a.txt", "Hi"), Format.TEXT, workdir)
    assert caught.value.code == "parser_crashed"
    assert list(workdir.iterdir()) == []


def test_a_child_that_hangs_is_killed_with_its_own_children(
    tmp_path: Path, workdir: Path, child_that: Callable[[str], None]
) -> None:
    pids = tmp_path / "pids"
    child_that(
        f"import os, subprocess, sys, time\n"
        f"other = subprocess.Popen([sys.executable, '-c', {BLOCKS!r}])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{other.pid}}')\n"
        f"time.sleep(60)"
    )
    began = time.monotonic()
    with pytest.raises(ParseError) as caught:
        parsed_in_child(write(tmp_path, "a.txt", "Hi"), Format.TEXT, workdir, seconds=1)

    assert caught.value.code == "too_slow"
    assert time.monotonic() - began < 10
    time.sleep(0.2)
    for pid in map(int, pids.read_text().split()):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"
    assert list(workdir.iterdir()) == []


def test_a_document_too_large_for_the_memory_is_too_large(tmp_path: Path, workdir: Path) -> None:
    page = write(tmp_path, "a.html", "<p>" + "<b>word</b> " * 2_000_000)
    with pytest.raises(ParseError) as caught:
        parsed_in_child(page, Format.HTML, workdir, mebibytes=300)
    assert caught.value.code == "too_large"


def test_the_child_has_an_empty_environment(
    tmp_path: Path, workdir: Path, child_that: Callable[[str], None]
) -> None:
    os.environ["SECRET_OF_THE_SITE"] = "x"
    seen = tmp_path / "seen"
    child_that(f"import os; open({str(seen)!r}, 'w').write(repr(dict(os.environ)))")
    with pytest.raises(ParserCrashed):
        parsed_in_child(write(tmp_path, "a.txt", "Hi"), Format.TEXT, workdir)
    del os.environ["SECRET_OF_THE_SITE"]
    assert set(eval(seen.read_text())) == {"TMPDIR", "LC_ALL"}


def test_a_child_holds_no_file_but_its_own_and_is_another_process_each_time(
    tmp_path: Path, workdir: Path, child_that: Callable[[str], None]
) -> None:
    seen = tmp_path / "seen"
    child_that(
        f"import os; open({str(seen)!r}, 'a').write("
        "f'{os.getpid()} {os.getsid(0)} {len(os.listdir(\"/proc/self/fd\"))}\\n')"
    )
    for _ in range(2):
        with pytest.raises(ParserCrashed):
            parsed_in_child(write(tmp_path, "a.txt", "Hi"), Format.TEXT, workdir)
    (first, group, files), (second, _, _) = (line.split() for line in seen.read_text().splitlines())
    assert first != second
    assert group == first
    assert int(files) == 5  # input, output, error; the file that is written, the list itself


def zygotes() -> list[psutil.Process]:
    """Those of this process."""
    return [p for p in psutil.Process().children() if any("zygote" in word for word in p.cmdline())]


def test_files_are_read_on_when_zygotes_are_killed(tmp_path: Path, workdir: Path) -> None:
    file = write(tmp_path, "a.txt", "Hello needle")
    parsed_in_child(file, Format.TEXT, workdir)
    for zygote in (found := zygotes()):
        zygote.kill()
    read = parsed_in_child(file, Format.TEXT, workdir)

    assert found
    assert [e.text for e in read.elements] == ["Hello needle"]


def test_a_zygote_killed_while_its_child_reads_costs_one_more_try_and_no_crash(
    tmp_path: Path, workdir: Path, child_that: Callable[[str], None]
) -> None:
    started = tmp_path / "started"
    answer = wire.encode_document(ParsedDocument([Element(ElementKind.PARAGRAPH, "Once more")]))
    child_that(
        f"import os, time\nis_first = not os.path.exists({str(started)!r})\n"
        f"open({str(started)!r}, 'a').write('x')\n"
        "if is_first:\n"
        "    print('half an answer', flush=True); os.kill(os.getppid(), 9); time.sleep(0.3)\n"
        f"print({answer.decode()!r})"
    )
    read = parsed_in_child(write(tmp_path, "a.txt", "Hi"), Format.TEXT, workdir)

    assert [e.text for e in read.elements] == ["Once more"]
    assert started.read_text() == "xx"


def test_a_child_that_kills_every_zygote_is_a_crash(
    tmp_path: Path, workdir: Path, child_that: Callable[[str], None]
) -> None:
    child_that("import os; os.kill(os.getppid(), 9)")
    with pytest.raises(ParserCrashed):
        parsed_in_child(write(tmp_path, "a.txt", "Hi"), Format.TEXT, workdir)


def test_threads_read_at_the_same_time(
    tmp_path: Path, workdir: Path, child_that: Callable[[str], None]
) -> None:
    answer = wire.encode_document(ParsedDocument([Element(ElementKind.PARAGRAPH, "Both")]))
    child_that(
        f"import os, time\nopen({str(tmp_path)!r} + f'/{{os.getpid()}}.met', 'w').close()\n"
        f"while len([n for n in os.listdir({str(tmp_path)!r}) if n.endswith('.met')]) < 2:\n"
        "    time.sleep(0.01)\n"  # each waits for the other
        f"print({answer.decode()!r})"
    )
    file = write(tmp_path, "a.txt", "Hi")
    with ThreadPoolExecutor() as threads:
        reading = [threads.submit(parsed_in_child, file, Format.TEXT, workdir) for _ in "ab"]
    assert [r.result().elements[0].text for r in reading] == ["Both", "Both"]


def in_sandbox(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that has entered the sandbox."""
    entering = (
        "import os\n"
        "from ingestion.parsing import sandbox\n"
        f"sandbox.enter(memory_bytes={400 * MEBIBYTE}, cpu_seconds=2, parent=os.getppid())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", entering + program],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_sandbox_limits_memory_time_and_written_bytes(tmp_path: Path) -> None:
    assert "MemoryError" in in_sandbox("bytearray(500 * 1024 * 1024)").stderr
    assert in_sandbox("while True: pass").returncode < 0
    written = tmp_path / "big"
    assert in_sandbox(
        f"f = open({str(written)!r}, 'wb')\nfor _ in range(300): f.write(bytes(1024 * 1024))"
    ).returncode
    assert written.stat().st_size <= sandbox.MAX_WRITTEN_BYTES


def test_the_sandbox_has_no_network_where_the_kernel_allows_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ended = in_sandbox(
            "import socket, os\n"
            "print(open('/proc/net/dev').read().count(':'))\n"
            f"socket.create_connection(('127.0.0.1', {port}), timeout=2)"
        )
    probe = "import ctypes; print(ctypes.CDLL(None).unshare(0x50000000))"
    can = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True).stdout
    if can.strip() != b"0":
        pytest.skip("this kernel gives no network namespaces to us")
    assert ended.returncode != 0
    assert "OSError" in ended.stderr or "refused" in ended.stderr.lower()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process of its parent's death")
def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = (
        "import os, time; from ingestion.parsing import sandbox; "
        "sandbox.enter(memory_bytes=2**30, cpu_seconds=60, parent=os.getppid()); "
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])",
        ],
        cwd=PROJECT,
    )
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = int(pid_file.read_text())
    parent.kill()
    parent.wait()
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_zygote_and_its_child_end_with_their_owner(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    work = (
        f"import os, time; open({str(pids)!r}, 'w').write(f'{{os.getppid()}} {{os.getpid()}}'); "
        "time.sleep(60)"
    )
    served = (
        "from ingestion.parsing import zygote\n"
        f"zygote.serve({{'read': lambda *_, parent: exec({work!r})}}, lambda *_: None)"
    )
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os; from ingestion.parsing.zygote import Zygote\n"
            "null = open(os.devnull, 'rb')\n"
            f"Zygote(('-c', {served!r})).fork('read', [], environment={{}}, files=[null] * 3)"
            ".wait()",
        ],
        cwd=PROJECT,
    )
    deadline = time.monotonic() + 20
    while not (pids.exists() and " " in pids.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    zygote, child = map(int, pids.read_text().split())
    owner.kill()
    owner.wait()
    for pid in (zygote, child):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_importing_the_package_loads_no_parser_and_the_child_no_django() -> None:
    program = "import sys, ingestion.parsing, ingestion.parsing.child; print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, check=True, text=True
    ).stdout
    for name in ("django", "pypdfium2", "docx", "lxml", "markdown_it", "charset_normalizer"):
        assert f"'{name}'" not in loaded


def test_every_format_names_its_parser() -> None:
    assert set(PARSERS) == set(Format) - {Format.ZIP}
    assert set(EXTENSIONS) == set(Format)


def test_a_document_survives_the_wire() -> None:
    parsed = ParsedDocument(
        elements=[
            Element(ElementKind.HEADING, "Ä\n“x”", page=2, level=3),
            Element(ElementKind.TABLE, "a | b\n1 | 2", has_header=True),
        ],
        pages=2,
        title="T",
        notices=[Notice("hidden_sheets", 3)],
        pictures=[1, 2],
    )
    assert wire.decode_answer(wire.encode_document(parsed)) == parsed
    assert json.loads(wire.encode_error("corrupt", "x" * 9999))["message"] == "x" * 2000


def test_a_child_that_ends_itself_where_memory_is_refused_is_no_crash() -> None:
    held = 480 * MEBIBYTE
    assert sandbox.is_exhausted(held, 1024 * MEBIBYTE, aborted=True)
    assert not sandbox.is_exhausted(held, 1024 * MEBIBYTE)
    assert not sandbox.is_exhausted(100 * MEBIBYTE, 1024 * MEBIBYTE, aborted=True)
