"""The whole bench: limits, then each part with a network of its own, row after row."""

import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2pet.bench.budgets import ROWS, Row
from p2pet.bench.flow_rows import HOMES, FlowLoad, flow_load
from p2pet.bench.idle import start_once
from p2pet.bench.limits import Limits, measure_limits
from p2pet.bench.load import medians
from p2pet.bench.machine import Machine, Memory, durable_file_system, memory, this_machine
from p2pet.bench.meter import Measured
from p2pet.bench.networks import BenchNetwork, new_network
from p2pet.bench.notary_rows import NotaryLoad, notary_load
