"""Threads that share a native object never stop each other for good."""

import subprocess
import sys
from pathlib import Path

# A deadlock that holds the interpreter's lock stops every thread of the process, so that another one must watch.
SECONDS_MAX = 120
THREADS_AT_A_CLOSED_STORE = """
import sys, threading
from p2petd import native

store = native.Store.open(sys.argv[1], segment_bytes=1 << 16, map_bytes=1 << 24)
store.close()
refused = []

def use():
    for number in range(20_000):
        try:
            store.get(1, b"x") if number % 2 else store.sequence
        except native.StoreError as error:
            refused.append(error.code)

threads = [threading.Thread(target=use) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert set(refused) == {"store.closed"} and len(refused) == 60_000
"""
THREADS_AT_A_DECIDED_BATCH = """
import sys, threading
from p2petd import native

service, worker = (native.SigningKey.from_seed(bytes([seed]) * 32) for seed in (1, 2))
certificate = native.certify_worker(service, bytes(32), worker.public, 0, 2**62)
rules = native.Rules(bytes(32), [])
notary = native.Notary.open(
    sys.argv[1], rules, bytes(32), 1, worker, certificate, segment_bytes=1 << 16, map_bytes=1 << 24
)
batch = notary.check([(bytes(32), b"junk")])
decided = []
refused = []

def use():
    for _ in range(20_000):
        try:
            decided.append(notary.decide(batch, {}, 1))
        except native.MalformedError as error:
            refused.append(error.code)

threads = [threading.Thread(target=use) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(decided) == 1 and set(refused) == {"notary.batch_decided"} and len(refused) == 59_999
notary.close()
"""


def run(script: str, directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script, str(directory)], capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert done.returncode == 0, done.stderr


def test_threads_at_a_closed_store_are_all_refused(tmp_path: Path) -> None:
    run(THREADS_AT_A_CLOSED_STORE, tmp_path)


def test_threads_with_one_batch_decide_it_once(tmp_path: Path) -> None:
    run(THREADS_AT_A_DECIDED_BATCH, tmp_path)
