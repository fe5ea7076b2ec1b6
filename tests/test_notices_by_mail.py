"""The documented automation that sends e-mail, taken by a real Prefect server, which sends it to a mail server."""

import os
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from email.header import decode_header, make_header
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore
from prefect.states import Completed, Failed, Running

from api.jobs import PROCESSING
from tasks.job_marks import COMMON_TAG
from tests.engines import ROOT, wait_until

ID = r"[0-9a-f]{8}-[0-9a-f-]{27}"
DOCUMENT = (ROOT / "docs" / "notices.md").read_text()


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """Have a mail server on this machine that takes everything: its port, and the mails that came."""
    mails: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 here")
            while line := self.rfile.readline().decode().strip():
                word = line.upper().split()[0]
                if word == "DATA":
                    self.say("354 go on")
                    mails.append("".join(iter(lambda: self.rfile.readline().decode(), ".\r\n")))
                self.say("221 bye" if word == "QUIT" else "250 fine")

        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1], mails
        server.shutdown()
        thread.join(10)


@flow(name="process-acquisition")
def a_job() -> None:
    pass


def finish(name: str, end: State[None]) -> None:
    begun: State[None] = Running()
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(a_job, name=name, tags=[COMMON_TAG, PROCESSING.tag])
        for state in (begun, end):
            client.set_flow_run_state(run.id, state, force=True)


def automation() -> str:
    """The file of the documentation."""
    (text,) = re.findall(r"```yaml\n(name: pyama-mail.*?)```", DOCUMENT, re.DOTALL)
    return str(text)


def prefect(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "prefect", *map(str, arguments)]
    ended = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def documented_block(port: int) -> str:
    """Save the block of the documentation, for the mail server of this test, and return its id."""
    (code,) = re.findall(r"```python\n(from prefect.blocks.*?)```", DOCUMENT, re.DOTALL)
    code = re.sub(r"mailtos://.*?\?", f"mailto://127.0.0.1:{port}/?mode=insecure&", code).replace(
        "print(", "print('id', "
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    (block_id,) = re.findall(ID, ended.stdout)
    return str(block_id)


def test_the_documented_automation_is_one() -> None:
    written = yaml.safe_load(automation().replace("BLOCK_ID", str(uuid4())))
    (action,) = AutomationCore.model_validate(written).actions
    assert isinstance(action, SendNotification)
    assert written.keys() <= AutomationCore.model_fields.keys()


@pytest.mark.stack
def test_the_documented_automation_sends_mail(prefect_api: str, tmp_path: Path) -> None:
    with mail_server() as (port, mails):
        prefect("block", "register", "-m", "prefect.blocks.notifications")
        file = tmp_path / "automation.yaml"
        file.write_text(automation().replace("BLOCK_ID", documented_block(port)))
        (automation_id,) = re.findall(ID, prefect("automation", "create", "--from-file", file))
        try:
            finish("completed.nd2", Completed())
            finish("film.nd2", Failed(message="no space left on the disk"))
            wait_until(lambda: mails, "a mail came", 120)
        finally:
            httpx.delete(f"{prefect_api}/automations/{automation_id}").raise_for_status()
    (mail,) = map(message_from_string, mails)
    assert str(make_header(decode_header(mail["Subject"]))) == "PyAMA: film.nd2 is Failed"
    said = [str(part.get_payload(decode=True)) for part in mail.walk() if not part.is_multipart()]
    assert any("no space left on the disk" in part for part in said)
