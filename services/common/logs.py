"""Structured logs: aligned text on a terminal, one JSON object a line otherwise.

A line that is written while a request is under way says which one (`request_id`, and `trace_id` when traces are made).
What libraries say comes out in the same form, from warnings on. There is no line for each request.
"""

import logging
import os
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

from services.common.request_id import request_id


class _Lossy:
    """A stream for logs: what finds no room on the disk is lost, and whoever said it goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def set_up_logs(service: str, level: str = "info") -> None:
    """Send every log line of this process to standard error, with the service's name on it."""
    stream = cast(TextIO, _Lossy(sys.stderr))
    renderer: Processor = structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(stream)
    of_libraries: list[Processor] = [_name_module, *shared]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=of_libraries,
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def get_log(module: str) -> structlog.typing.FilteringBoundLogger:
    """The log of a module; bound late, so that it is configured by `set_up_logs` wherever that is called."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger(module=module)
    return log


def _add_request(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Say which request and which trace a line belongs to."""
    if (found := request_id()) is not None:
        event["request_id"] = found
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = trace.format_trace_id(span.trace_id)
    return event


def _name_module(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The logger of a library is its module."""
    event["module"] = event["_record"].name
    return event
