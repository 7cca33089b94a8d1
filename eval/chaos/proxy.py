"""One caller's way to one target: a TCP listener that hands bytes on, until it is told to swallow them.

Like a network that is cut, it refuses nothing and breaks nothing: connections stand, and are still made, but nothing
arrives. When the cut is over, each connection that lost something is reset, for what is left of it makes no sense.
"""

import asyncio
from contextlib import suppress

HOST = "127.0.0.1"
CHUNK = 65_536


class _Connection:
    """One connection of the caller, and the one to the target that belongs to it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.has_lost = False

    def abort(self) -> None:
        """Reset both."""
        for writer in self.writers:
            writer.transport.abort()


class Link:
    """The way from one caller to `port`. `swallows_requests` and `swallows_answers` say what does not arrive.

    `swallowed` is set when something did not, since the last cut was over.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._healed = asyncio.Event()
        self.swallowed = asyncio.Event()
        self.swallows_requests = False
        self.swallows_answers = False

    async def open(self) -> str:
        """Listen; gives the address that the caller is to use."""
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        return f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    def cut(self, *, requests: bool = False, answers: bool = False) -> None:
        """From now on these do not arrive, in addition to what does not already."""
        self.swallows_requests = self.swallows_requests or requests
        self.swallows_answers = self.swallows_answers or answers

    def heal(self) -> None:
        """Hand everything on again."""
        self.swallows_requests = self.swallows_answers = False
        for connection in self._connections:
            if connection.has_lost:
                connection.abort()
        self.swallowed.clear()
        self._healed.set()
        self._healed = asyncio.Event()

    async def close(self) -> None:
        """Listen no more, and reset all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        self._connections.add(connection)
        try:
            target = await self._connect()
            if target is not None:
                target_reader, target_writer = target
                connection.writers.append(target_writer)
                await asyncio.gather(
                    self._pump(connection, reader, target_writer, is_answer=False),
                    self._pump(connection, target_reader, writer, is_answer=True),
                )
        finally:
            connection.abort()
            self._connections.discard(connection)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection to the target; None when it refuses, which a caller that is cut off does not learn."""
        try:
            return await asyncio.open_connection(HOST, self._port)
        except OSError:
            if self.swallows_requests or self.swallows_answers:
                self.swallowed.set()
                await self._healed.wait()
            return None

    async def _pump(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        """Carry one direction until it ends; its end is the other's."""
        data = await self._read(reader)
        while data or self._swallows(is_answer):
            if self._swallows(is_answer):
                connection.has_lost = True
                self.swallowed.set()
                if not data:
                    await self._healed.wait()  # nobody learns of an end either
                    break
            else:
                writer.write(data)
                with suppress(ConnectionError):
                    await writer.drain()
            data = await self._read(reader)
        writer.close()

    def _swallows(self, is_answer: bool) -> bool:
        return self.swallows_answers if is_answer else self.swallows_requests

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> bytes:
        """The next bytes; none at the end, however it came."""
        try:
            return await reader.read(CHUNK)
        except OSError:
            return b""
