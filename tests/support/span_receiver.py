"""Somebody who takes spans over OTLP/HTTP and remembers what they were."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.ports import free_port


class SpanReceiver:
    """Listens on a port of its own while it is entered. `spans`: trace id, name of the service, name of the span."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, str]] = []
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, body: bytes) -> None:
        """Remember the spans of one message."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            )
            for scope in resource.scope_spans:
                self.spans += [(span.trace_id.hex(), service, span.name) for span in scope.spans]

    def names(self, trace_id: str) -> set[tuple[str, str]]:
        """The services and spans of one trace."""
        return {(service, name) for trace, service, name in self.spans if trace == trace_id}

    @property
    def traces(self) -> set[str]:
        """The ids of all traces."""
        return {trace for trace, _, _ in self.spans}
