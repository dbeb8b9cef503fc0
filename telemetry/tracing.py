"""Traces by OpenTelemetry, on when OTEL_EXPORTER_OTLP_ENDPOINT is set.

Off, a span is nothing: no package of OpenTelemetry is imported here. The usual variables of
OpenTelemetry (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, …) hold.

Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context
from typing import Any

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_role = "command"
# The tracer and the process that made it: what a fork inherits sends nothing.
_made: tuple[int, Any] = (0, None)


def become(role: str) -> None:
    """Name this process: "web", "worker", "inference"."""
    global _role
    _role = role


def role() -> str:
    """What this process is."""
    return _role


def is_on() -> bool:
    """Whether spans are sent anywhere."""
    return bool(os.environ.get(ENDPOINT))


def span(
    name: str, carrier: Mapping[str, str] | None = None, **attributes: str | int | float
) -> AbstractContextManager[Any]:
    """A span around the block; it records what is raised.

    Args:
        name: of few values: the route, the task, the stage.
        carrier: headers that came with the request or message; continues the trace in them.
        attributes: ids and counts; never the text of anything.
    """
    if not is_on():
        return nullcontext()
    return _span(name, carrier, attributes)


@contextmanager
def _span(
    name: str, carrier: Mapping[str, str] | None, attributes: Mapping[str, str | int | float]
) -> Iterator[Any]:
    from opentelemetry.trace import Status, StatusCode

    context = None
    if carrier is not None:
        lowered = {key.lower(): value for key, value in carrier.items()}
        context = _propagator().extract(lowered)
    # Messages of exceptions may quote a text: their type has to do.
    with _tracer().start_as_current_span(
        name,
        context=context,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except Exception as exc:
            current.set_status(Status(StatusCode.ERROR, type(exc).__name__))
            raise


def headers() -> dict[str, str]:
    """The headers by which another process continues this trace; none when off."""
    carrier: dict[str, str] = {}
    if is_on():
        _propagator().inject(carrier)
    return carrier


def hand_over(context: Context) -> None:
    """Let work in this context belong to the current span."""
    if is_on():
        from opentelemetry.context import attach, get_current

        context.run(attach, get_current())


def flush() -> None:
    """Send what waits to be sent, before the process ends."""
    pid, tracer = _made
    if tracer is not None and pid == os.getpid():
        tracer.span_processor.force_flush(5_000)


def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()


def _tracer() -> Any:
    global _made
    if _made[0] != os.getpid():
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        service = os.environ.get("OTEL_SERVICE_NAME") or f"ragsite-{role()}"
        provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        _made = (os.getpid(), provider.get_tracer("ragsite"))
    return _made[1]
