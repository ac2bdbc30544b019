"""Training workers of tests, forked from one process per test session.

A new worker process loads spaCy for a second. A fork takes milliseconds. A forked worker is a real process
with the program, pipes, environment and session of a worker that `training.local_worker` starts.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from karen_learner.training import local_worker

SERVER = "import socket; from tests.forked_workers import serve; serve(socket.socket(fileno=0))"
REQUEST_BYTES = 1 << 17


class ForkedWorker:
    """A process with the attributes of `asyncio.subprocess.Process` that `LocalWorker` uses."""

    returncode: int | None = None

    def __init__(
        self,
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
        pid: int,
        status: asyncio.StreamReader,
    ) -> None:
        self.stdin, self.stdout, self.stderr, self.pid = stdin, stdout, stderr, pid
        self._ended = asyncio.create_task(self._read_code(status))

    async def _read_code(self, status: asyncio.StreamReader) -> int:
        self.returncode = code = int(await status.read())
        return code

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class WorkerForks:
    """Starts workers by a server process, which starts with the first worker."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket

    def close(self) -> None:
        """End the server. Running workers end with their input."""
        if self._server is not None:
            self._requests.close()
            self._server.wait()

    async def start(self) -> ForkedWorker:
        """Replaces `local_worker._start_process`. A cancelled start ends the worker, as in asyncio."""
        starting = asyncio.create_task(self._start())
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            worker = await starting
            worker.kill()
            worker.stdin.close()
            await worker.wait()
            raise

    async def _start(self) -> ForkedWorker:
        self._start_server()
        (read_input, stdin), (stdout, write_output) = os.pipe(), os.pipe()
        (stderr, write_errors), (status, write_status) = os.pipe(), os.pipe()
        theirs = [read_input, write_output, write_errors, write_status]
        environment = os.environ | dict.fromkeys(local_worker.NUMERIC_THREADS, "1")
        request = [str(Path.cwd()), environment, local_worker._import_path()]
        socket.send_fds(self._requests, [json.dumps(request).encode()], theirs)
        for descriptor in theirs:
            os.close(descriptor)
        streams = [await _reader(stdout), await _reader(stderr)]
        answers = await _reader(status)
        return ForkedWorker(await _writer(stdin), *streams, int(await answers.readline()), answers)

    def _start_server(self) -> None:
        if self._server is not None:
            return
        self._requests, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(Path(__file__).parents[1])
        with requests:
            self._server = subprocess.Popen(
                [sys.executable, "-Wignore", "-c", SERVER],
                stdin=requests,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)])},
            )


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(local_worker.MESSAGE_LIMIT)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb", 0))
    return reader


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(descriptor, "wb", 0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


def serve(requests: socket.socket) -> None:
    """Fork a worker for each request, until the input ends. The server."""
    import karen_learner.training.worker  # noqa: F401 - loads the modules for all workers

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system removes ended children
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 4)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            _supervise(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _supervise(request: bytes, descriptors: list[int]) -> None:
    """Write the id of a forked worker, then its exit code. A child of the server."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, status = descriptors
    worker = os.fork()
    if worker == 0:
        os.close(status)
        _work(request, streams)
    for descriptor in streams:
        os.close(descriptor)
    os.write(status, b"%d\n" % worker)
    code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    os.write(status, b"%d\n" % code)
    os._exit(0)


def _work(request: bytes, streams: list[int]) -> None:
    """Run the program of the worker."""
    try:
        folder, environment, paths = json.loads(request)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for target, descriptor in enumerate(streams):
            os.dup2(descriptor, target)
            os.close(descriptor)
        sys.argv[1:] = paths
        exec(local_worker.START, {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
