"""The process that a worker starts for a flow run: it runs Prefect's engine, and sees to it that stopping works.

The worker hears by an event that a run is to be cancelled, which it misses while the run starts, and it waits half a
minute for a process that does not answer. So this process looks at the run's state now and then, ends the engine where
the worker has not, kills it after a few seconds, and tells Prefect that the run is cancelled once the engine is gone.

It signs the run with its name, and changes a number there every few seconds, by which others know that the run is
worked on (`deployments.recovery`). Where it finds another process's name, or a run that has ended or waits for its turn
once more, it ends the engine and says nothing: whatever it could say is about work that is no longer its own. Where it
finds a name when it begins, it waits until that process is gone.

It imports nothing but the standard library, because it is in the way of every start.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from http.client import HTTPException
from time import monotonic, sleep
from typing import Any, NamedTuple

from deployments.parent import die_with_parent
from deployments.process_name import BEAT_LABEL, PROCESS_LABEL, is_alive_here, is_gone_from_here, name_of_process
from tasks.job_marks import TAKEN_UP_LABEL

_LOOK_INTERVAL_S = 2.0
_BEAT_INTERVAL_S = 4.0
_WORKER_PATIENCE_S = 1.0
"""Time that the worker has to end the engine, once the run is to be cancelled."""
_END_PATIENCE_S = 7.0
"""Time that the engine has to end; then it is killed."""
_ENDED_PATIENCE_S = 15.0
"""Time that the engine has to end by itself, once its run has ended."""
_TIMEOUT_PATIENCE_S = 10.0
"""Time that the flow has to notice by itself that it takes too long."""
_SEEN_PATIENCE_S = 10.0
"""Time that a process of this machine has to give up a run that another one has signed."""
_UNSEEN_PATIENCE_S = 4.0
"""Time that one has that cannot be seen from here, as most often it is dead."""
_ANSWER_TIMEOUT_S = 5.0
_N_QUESTIONS = 4
_QUESTION_PAUSE_S = 1.0
_WAIT_STEP_S = 0.2
_NICENESS = 10
"""Computing takes all processors for hours; the API, Prefect and people's own programs come first."""
_SIGNALS = {number.value: number.name for number in signal.Signals}
_TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_TAKEN_BACK = {"SCHEDULED", "PAUSED"}
"""In these a run waits for another process."""


class RunState(NamedTuple):
    """What Prefect knows of the run."""

    kind: str
    """Type of its state."""
    began: datetime | None
    process: str | None
    """Whoever has signed it."""


class FlowProcess:
    """Prefect's engine at work on a run.

    Parameters
    ----------
    environment
        What the worker has set, among it the run's id and where Prefect is.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._api = environment.get("PREFECT_API_URL", "").rstrip("/")
        self._run_id = environment.get("PREFECT__FLOW_RUN_ID", "")
        self._headers = {"Content-Type": "application/json", **_authorization(environment)}
        self._timeout_s = _positive(environment.get("PYAMA_JOB_TIMEOUT", ""))
        self._engine: subprocess.Popen[bytes] | None = None
        self._kill_at_s = float("inf")
        self._cancelled_here = False
        self._timed_out = False
        self._lost = False
        self._name = name_of_process(os.getpid())
        self._beats = 0
        self._signed = False

    def run(self) -> int:
        """Run the engine to its end and return an exit code."""
        state = self._state()
        if state is not None and self._is_over(state):
            return 0
        self._beat()
        if state is not None and state.process not in {None, self._name}:
            self._outlast(state.process or "")
            state = self._state()
            if state is not None and self._is_over(state):
                return 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)
        self._engine = subprocess.Popen([sys.executable, "-m", "prefect.engine"], preexec_fn=_prepare_engine)
        code = self._wait(self._engine)
        return self._conclude(code)

    def _is_over(self, state: RunState) -> bool:
        """Whether there is nothing to begin with; cancels what is to be cancelled."""
        if state.kind == "CANCELLING":
            self._set_state("CANCELLED", "Cancelled", "Cancelled before it began")
            return True
        return state.kind in _TERMINAL or state.kind in _TAKEN_BACK

    def _outlast(self, other: str) -> None:
        """Wait until the process that has worked on the run is gone, which it is soon after this one has signed.

        It may come to the run's end until then, which has to stand.
        """
        end_s = monotonic() + (_SEEN_PATIENCE_S if is_alive_here(other) else _UNSEEN_PATIENCE_S)
        while not is_gone_from_here(other) and monotonic() < end_s:
            sleep(_WAIT_STEP_S)

    def _wait(self, engine: subprocess.Popen[bytes]) -> int:
        """Wait for the end of the engine, and bring it about where it is due."""
        look_at_s = monotonic() + _LOOK_INTERVAL_S
        beat_at_s = monotonic() + _BEAT_INTERVAL_S
        end_at_s = float("inf")
        while True:
            try:
                return engine.wait(_WAIT_STEP_S)
            except subprocess.TimeoutExpired:
                now = monotonic()
            if now >= self._kill_at_s:
                engine.kill()
            if now >= end_at_s and self._kill_at_s == float("inf"):
                self._cancelled_here = True
                self._end(engine)
            if now >= look_at_s:
                look_at_s = now + _LOOK_INTERVAL_S
                state = self._state()
                if state is not None and state.kind == "CANCELLING":
                    end_at_s = min(end_at_s, now + _WORKER_PATIENCE_S)
                if state is not None and self._is_overdue(state.began):
                    self._timed_out = True
                    self._kill_at_s = now
                if state is not None and state.kind in _TERMINAL:
                    self._kill_at_s = min(self._kill_at_s, now + _ENDED_PATIENCE_S)
                if state is not None and self._is_lost(state):
                    self._lost = True
                    self._kill_at_s = now
            if now >= beat_at_s and not self._lost:
                beat_at_s = now + _BEAT_INTERVAL_S
                self._beat()

    def _is_lost(self, state: RunState) -> bool:
        return state.kind in _TAKEN_BACK or (self._signed and state.process not in {None, self._name})

    def _conclude(self, code: int) -> int:
        """Tell Prefect how the run has ended, where nobody else does."""
        if self._lost or not (self._cancelled_here or self._timed_out or code != 0 or self._is_ending()):
            return 0
        as_a_shell_tells = code if code >= 0 else 128 - code
        state = self._certain_state()
        if state is None:
            return as_a_shell_tells  # the worker proposes a state then, which Prefect refuses where the run has ended
        if self._is_lost(state):
            return 0
        kind = state.kind
        if kind == "CANCELLING" or (self._cancelled_here and kind == "CRASHED"):
            self._set_state("CANCELLED", "Cancelled", "Cancelled; its work has ended")
            return 0
        if self._timed_out and kind not in _TERMINAL:
            message = (
                f"the job took longer than {self._timeout_s:g} s from its first start, which is what PYAMA_JOB_TIMEOUT "
                "allows, and did not answer; it was killed, what is finished stays"
            )
            self._set_state("FAILED", "Failed", message)
            return 0
        if kind in _TERMINAL or code == 0:
            return 0
        # The worker, left to tell of it, does so twice in a second, and would undo a retry that comes in between.
        told = self._set_state("CRASHED", "Crashed", _unexpected_end(code), force=False)
        return 0 if told else as_a_shell_tells

    def _pass_on(self, number: int, _frame: object) -> None:
        if self._engine is not None:
            self._end(self._engine, number)

    def _end(self, engine: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
        engine.send_signal(number)
        self._kill_at_s = min(self._kill_at_s, monotonic() + _END_PATIENCE_S)

    def _is_ending(self) -> bool:
        return self._kill_at_s < float("inf")

    def _is_overdue(self, began: datetime | None) -> bool:
        if self._timeout_s is None or began is None:
            return False
        return (datetime.now(UTC) - began).total_seconds() > self._timeout_s + _TIMEOUT_PATIENCE_S

    def _beat(self) -> None:
        """Tell that the run is worked on; sign it once, because another one's signature is not to be lost."""
        self._beats += 1
        labels: dict[str, str | int] = {BEAT_LABEL: self._beats}
        if not self._signed:
            labels[PROCESS_LABEL] = self._name
        if self._ask("PATCH", f"/flow_runs/{self._run_id}/labels", labels) is not None:
            self._signed = True

    def _state(self) -> RunState | None:
        """State of the run; None where Prefect does not answer."""
        run = self._ask("GET", f"/flow_runs/{self._run_id}", None)
        if not isinstance(run, dict) or not run.get("state"):
            return None
        labels = run.get("labels") or {}
        begins = [datetime.fromisoformat(one) for one in (run.get("start_time"), labels.get(TAKEN_UP_LABEL)) if one]
        return RunState(str(run["state"]["type"]), max(begins, default=None), labels.get(PROCESS_LABEL))

    def _certain_state(self) -> RunState | None:
        """State of the run, for which Prefect is asked some times."""
        for _ in range(_N_QUESTIONS):
            if (state := self._state()) is not None:
                return state
            sleep(_QUESTION_PAUSE_S)
        return None

    def _set_state(self, kind: str, name: str, message: str, *, force: bool = True) -> bool:
        state = {"type": kind, "name": name, "message": message}
        answer = self._ask("POST", f"/flow_runs/{self._run_id}/set_state", {"state": state, "force": force})
        return answer is not None

    def _ask(self, method: str, path: str, body: object) -> Any:  # noqa: ANN401 - JSON
        if not self._api:
            return None
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._api + path, data, self._headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_TIMEOUT_S) as answer:  # noqa: S310
                content = answer.read()
                return json.loads(content) if content else {}
        except (OSError, ValueError, HTTPException):
            return None


def _authorization(environment: Mapping[str, str]) -> dict[str, str]:
    """How Prefect wants to be asked: by a key, by a password, or by anybody."""
    if key := environment.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if password := environment.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}
    return {}


def _unexpected_end(code: int) -> str:
    """What has become of an engine that did not tell itself."""
    if code >= 0:
        how, why = f"ended with exit code {code}", "its last words are in the worker's log"
    else:
        how = f"was killed by {_SIGNALS.get(-code, f'signal {-code}')}"
        why = "for want of memory, where nobody did it by hand" if -code == signal.SIGKILL else "see the worker's log"
    return f"the process that computed {how} ({why}); what is finished stays, and a retry computes the rest"


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None


def _prepare_engine() -> None:
    """Have the engine give way to whoever is waited for, and end with this process, whatever that dies of."""
    os.nice(_NICENESS)
    die_with_parent()


if __name__ == "__main__":
    die_with_parent()  # without its worker, nobody would tell how the run has ended
    sys.exit(FlowProcess(os.environ).run())
