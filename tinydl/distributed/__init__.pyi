"""Made by tests/stubs.py of what is there at run time."""

# mypy: ignore-errors

from tinydl.distributed.checkpoints import load_checkpoint as load_checkpoint
from tinydl.distributed.checkpoints import save_checkpoint as save_checkpoint
from tinydl.distributed.group import Group as Group
from tinydl.distributed.group import Shard as Shard
from tinydl.distributed.group import nccl as nccl
from tinydl.distributed.group import serial as serial
from tinydl.distributed.group import world as world
from tinydl.distributed.parallel import DataParallel as DataParallel
from tinydl.distributed.parallel import average_gradients as average_gradients
from tinydl.distributed.transport import RankError as RankError

__all__: list[str]
