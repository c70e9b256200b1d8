# SPDX-License-Identifier: Apache-2.0
"""The processes in which compare.py has contenders run."""

import contextlib
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

PYTHON_CONTENDERS = Path(__file__).with_name("python_contenders.py")


class Contenders:
    """A process that runs contenders when told to."""

    def __init__(self, kind, options):
        python = [options.python, "-B", str(PYTHON_CONTENDERS)]
        self.program = python if kind.language == "Python" else [options.program]
        self.program += [options.model, options.device]
        self.kind = kind
        reading, writing = os.pipe()
        self.errors = tempfile.TemporaryFile()
        stderr = self.open_terminal() if kind.terminal else self.errors
        threads = {name: str(kind.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        gpus = {"CUDA_VISIBLE_DEVICES": ""} if options.device == "cpu" else {}
        self.started_ns = time.monotonic_ns()
        self.process = subprocess.Popen(
            self.program + [str(writing)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=[writing],
            env=os.environ | threads | gpus,
            text=True,
        )
        os.close(writing)
        if kind.terminal:
            os.close(stderr)
        self.replies = os.fdopen(reading)

    def open_terminal(self):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))

        def drain():
            with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as shown:
                while shown.read(65536):
                    pass

        threading.Thread(target=drain, daemon=True).start()
        return theirs

    def ask(self, question):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
        reply = self.replies.readline()
        if reply:
            return json.loads(reply)
        self.process.wait()
        self.errors.seek(0)
        sys.exit(
            f"{' '.join(self.program)} ended with status {self.process.returncode} at "
            f"'{question}': {self.errors.read().decode(errors='replace').strip()}"
        )

    def run(self, contender, data, updates, warm_up):
        return self.ask(f"{contender} {data} {warm_up} {updates}")

    def versions(self):
        versions = self.ask("versions")
        threads = versions.pop("threads")
        if threads != self.kind.threads:
            sys.exit(f"{self.program[0]} has {threads} threads, asked for {self.kind.threads}")
        return versions

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.replies.close()
        self.errors.close()
