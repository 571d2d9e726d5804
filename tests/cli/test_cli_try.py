"""`mailserv try`: every line that it prints works exactly as it stands."""

from __future__ import annotations

import re
import shutil
import signal
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Process, port_of, running

READY = r"^ready smtp=127\.0\.0\.1:\d+ submission=127\.0\.0\.1:\d+ pop3=127\.0\.0\.1:\d+$"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Process]:
    with running("try", cwd=tmp_path) as process:
        process.until(READY)
        yield process


def lines(demo: Process, program: str) -> list[str]:
    """The lines to copy for one program; a line that goes on on the next one counts as one."""
    text = demo.printed(end="The life of each message follows").replace("\\\n", "")
    return [line for line in text.splitlines() if re.match(rf"(printf .*\| )?{program} ", line)]


def shell(line: str) -> str:
    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert ran.returncode == 0, f"{line}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def test_the_curl_lines_work_as_printed_and_the_life_of_each_message_is_shown(demo: Process) -> None:
    send, fetch, send_elsewhere, fetch_bounce = lines(demo, "curl")
    shell(send)
    assert "login=alice@example.test" in demo.until("  accepted ").string
    assert "It works." in shell(fetch)
    shell(send_elsewhere)
    demo.until("  accepted ")
    demo.until("outcome=failed")
    bounce = shell(fetch_bounce)
    assert "multipart/report" in bounce
    assert "somebody@example.com" in bounce


@pytest.mark.interop
def test_the_swaks_lines_work_as_printed(demo: Process) -> None:
    found = lines(demo, "swaks")
    assert len(found) == 2
    if shutil.which("swaks") is None:
        return
    for line in found:
        assert "queued as" in shell(line)


def test_its_mail_is_under_var_try_and_is_there_again_the_next_time(tmp_path: Path) -> None:
    for _ in range(2):
        with running("try", cwd=tmp_path) as process:
            process.until(READY)
            code, out, err = process.stop()
        assert code == 0
        assert str(tmp_path / "var" / "try") in out
        assert "stopped" in err
    assert [path.name for path in tmp_path.iterdir()] == ["var"]


def test_where_its_ports_are_taken_it_finds_others(tmp_path: Path) -> None:
    with running("try", cwd=tmp_path) as first:
        one = first.until(READY)
        with running("try", "--data-dir", "other", cwd=tmp_path) as second:
            two = second.until(READY)
    assert not set(re.findall(r":(\d+)", one.string)) & set(re.findall(r":(\d+)", two.string))


def test_a_second_one_on_the_same_folder_is_one_line(demo: Process, tmp_path: Path) -> None:
    with running("try", cwd=tmp_path) as second:
        code, out, err = second.end()
    assert (code, out) == (1, "")
    assert err.startswith("mailserv: ")
    assert err.endswith(" is running here\n")
    assert len(err.splitlines()) == 1


def test_sighup_changes_nothing(demo: Process) -> None:
    demo.signal(signal.SIGHUP)
    assert demo.stop()[0] == 0


def test_magic_recipients_are_refused_as_their_names_say(demo: Process) -> None:
    assert "452@example.test" in demo.printed(end="The life of each message follows")
    port = port_of(re.match(READY, demo.seen[-1]) or pytest.fail("no ready line"), "smtp")
    with smtplib.SMTP("127.0.0.1", port, "client.example.net") as client:
        client.ehlo()
        client.mail("stranger@example.net")
        names = ("tempfail", "permfail", "452", "bob")
        assert [client.rcpt(f"{name}@example.test")[0] for name in names] == [451, 550, 452, 250]
