"""The processes that fit one network together; a process alone is a group of one."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from trainer.errors import BadInputError, FollowedError, PeerLostError, RanksDisagreeError, TrainerError

# One process evaluates and registers while the others wait for its verdict. A process that dies is noticed at once,
# because its connections end.
_LONGEST_WAIT = timedelta(hours=2)


@dataclass(frozen=True)
class Group:
    """This process's place among those that fit one network.

    All of them call the same methods in the same order; in a group of one, these do nothing.

    Attributes:
        rank: Number of this process; rank 0 leads: it alone tracks, evaluates and registers.
        size: How many processes there are.
        local_rank: Number of this process in its pod.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def device(self) -> torch.device:
        """The GPU of this process if there are GPUs, else the CPU.

        Raises:
            BadInputError: There are fewer GPUs than processes.
        """
        if not torch.cuda.is_available():
            return torch.device("cpu")
        if self.local_rank >= (gpus := torch.cuda.device_count()):
            raise BadInputError(f"--processes: this pod has {gpus} GPUs, and each process needs one")
        return torch.device("cuda", self.local_rank)

    def share(self, rows: int) -> slice:
        """Return which of so many rows are this process's; shares differ by one row at most."""
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def sum(self, values: Tensor) -> None:
        """Replace values by their sum over all processes; all processes get the same bits."""
        if self.size > 1:
            with _exchanging():
                distributed.all_reduce(values)

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace the gradients of parameters, all of which have one, by their sums."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # All of them together are a few ten kilobytes: what one exchange costs is its latency.
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self.sum(flat)
        for gradient, total in zip(gradients, torch.split(flat, [part.numel() for part in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def gather(self, number: int) -> list[int]:
        """Return the number of each process, by rank."""
        if self.size == 1:
            return [number]
        every = torch.zeros(self.size, dtype=torch.int64)
        every[self.rank] = number
        self.sum(every)
        return every.tolist()

    def from_rank(self, rank: int, content: bytes) -> bytes:
        """Return the content that one process has; that of the others is ignored."""
        if self.size == 1:
            return content
        (length,) = self._sent(rank, torch.tensor([len(content)])).tolist()
        values = torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8) if self.rank == rank else None
        found = self._sent(rank, torch.empty(max(length, 1), dtype=torch.uint8) if values is None else values)
        return bytes(found[:length].numpy())

    def agree(self, text: str) -> None:
        """Make sure that all processes have the same text.

        Raises:
            RanksDisagreeError: This one's differs from that of rank 0.
        """
        if self.from_rank(0, text.encode()) != text.encode():
            raise RanksDisagreeError(
                f"process {self.rank} read other data than process 0: they changed in between; another attempt reads "
                "them again"
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let the block fail on all processes if it fails on one.

        Raises:
            FollowedError: It failed on another one, with its exit code.
        """
        try:
            yield
        except TrainerError as error:
            self.gather(error.exit_code)
            raise
        if code := max(self.gather(0)):
            raise FollowedError("another process failed", code)

    @contextmanager
    def leading(self) -> Iterator[None]:
        """On rank 0, tell the others how the block ended; they are in `follow`."""
        try:
            yield
        except TrainerError as error:
            self.from_rank(0, json.dumps({"message": str(error), "exit_code": error.exit_code}).encode())
            raise
        self.from_rank(0, b"")

    def follow(self) -> None:
        """Wait until rank 0 is through with the block in which it is `leading`.

        Raises:
            FollowedError: The block failed, with its exit code.
        """
        if verdict := self.from_rank(0, b""):
            raise FollowedError(**json.loads(verdict))

    def _sent(self, rank: int, values: Tensor) -> Tensor:
        with _exchanging():
            distributed.broadcast(values, src=rank)
        return values


@contextmanager
def _exchanging() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLostError(f"another process was lost: {error}") from error


ALONE = Group()


@contextmanager
def joined() -> Iterator[Group]:
    """Join the processes that torchrun or its API started; a process that they did not start is alone."""
    if not distributed.is_torchelastic_launched():
        yield ALONE
        return
    # CPU tensors go through Gloo on machines with GPUs, too.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=_LONGEST_WAIT)
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size(), distributed.get_node_local_rank())
    finally:
        distributed.destroy_process_group()
