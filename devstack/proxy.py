"""A TCP proxy that spoils a link on command: late, silent, refused, reset, or leading elsewhere.

    with Proxy(upstream=("127.0.0.1", 25432)) as link:
        link.latency = 0.5          # half a second more for each round trip
        link.black_hole()           # connections stand, connects succeed, nothing arrives until heal()
        link.refuse()               # connects are refused, standing connections are reset
        link.heal()

It runs in a thread of its own with its own event loop; every method may be called from any thread.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

CHUNK_BYTES = 65536
CHUNKS_HELD = 1024
CALL_SECONDS = 5
# Linger switched on with zero seconds: close() sends a reset instead of an orderly end.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on host:port (0: any free one) and forwards to `upstream`, which may be changed."""

    def __init__(
        self, *, upstream: tuple[str, int], port: int = 0, host: str = "127.0.0.1"
    ) -> None:
        self.upstream = upstream
        self.host = host
        self.port = port
        self.latency = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._links: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self.heal()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def black_hole(self) -> None:
        """Accept and acknowledge everything, pass nothing on; what arrives meanwhile passes after heal()."""
        self._call(self._set_flow(flows=False))

    def refuse(self) -> None:
        """Refuse connects, reset what stands."""
        self._call(self._close_listener())
        self.reset()

    def reset(self) -> None:
        """Reset the connections that stand; new ones work."""
        self._call(self._reset())

    def heal(self) -> None:
        """Listen and pass everything on again; a latency stays until it is set to 0."""
        self._call(self._listen())
        self._call(self._set_flow(flows=True))

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    # --- in the loop's thread -------------------------------------------------------------------

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close_listener(self) -> None:
        if self._server:
            self._server.close()
            self._server = None

    async def _set_flow(self, *, flows: bool) -> None:
        if flows:
            self._flows.set()
        else:
            self._flows.clear()

    async def _reset(self) -> None:
        for link in list(self._links):
            abort(link)
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _end(self) -> None:
        await self._close_listener()
        await self._reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (a server's callback always runs in a task)
        self._serving.add(task)
        self._links.add(writer)
        try:
            await self._flows.wait()
            far_reader, far = await asyncio.open_connection(*self.upstream)
            self._links.add(far)
            try:
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(reader, far))
                    pumps.create_task(self._pump(far_reader, writer))
                far.close()
                writer.close()
            finally:
                self._links.discard(far)
                abort(far)
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # a broken link is what this is for
        finally:
            self._links.discard(writer)
            self._serving.discard(task)
            abort(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass chunks on in order, each not before its time: the delay adds up to no loss of throughput."""
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_HELD)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take(reader, held))
            both.create_task(self._give(held, writer))

    async def _take(
        self, reader: asyncio.StreamReader, held: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        chunk = b"x"
        while chunk:
            chunk = await reader.read(CHUNK_BYTES)
            await held.put((self._loop.time() + self.latency / 2, chunk))

    async def _give(
        self, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, chunk = await held.get()
            await asyncio.sleep(due - self._loop.time())
            await self._flows.wait()
            if not chunk:
                writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()


def abort(writer: asyncio.StreamWriter) -> None:
    """Reset a connection, unless its orderly end has begun."""
    if writer.is_closing():
        return
    with suppress(OSError):
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
