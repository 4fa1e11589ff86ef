//! Logs, traces, and the trace context that goes with every call.
//!
//! Logs go to standard error: for people on a terminal, one JSON object a line otherwise. Traces go to an OTLP
//! collector when `OTEL_EXPORTER_OTLP_ENDPOINT` is set. One rollout is one trace: its record in the store carries
//! the trace context of the request that made it, and every leader that works on it continues that trace.

use std::io::IsTerminal;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// Header of W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// What must live as long as the process: dropping it sends the last spans.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown()
        {
            // The log's own subscriber may be gone by now.
            let _ = error;
        }
    }
}

/// Starts logs and, when a collector is configured, traces. `default_filter` is used when `LOCKKEEPER_LOG` is not
/// set (`info`, `lockkeeper=debug`, …).
#[must_use]
pub fn init(service: &'static str, default_filter: &str) -> Telemetry {
    let filter = EnvFilter::try_from_env("LOCKKEEPER_LOG").unwrap_or_else(|_| EnvFilter::new(default_filter));
    let human = std::io::stderr().is_terminal();
    let logs = match human {
        true => fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .boxed(),
        false => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    let provider = tracer_provider(service);
    // Our own spans only: those of the gRPC library come by the thousand, and exporting them would make more.
    let ours = Targets::new().with_target("lockkeeper", LevelFilter::INFO);
    let traces = provider.as_ref().map(|p| {
        tracing_opentelemetry::layer()
            .with_tracer(p.tracer(service))
            .with_filter(ours)
    });
    tracing_subscriber::registry()
        .with(traces)
        .with(logs.with_filter(filter))
        .init();
    Telemetry { provider }
}

fn tracer_provider(service: &'static str) -> Option<SdkTracerProvider> {
    std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let exporter = match SpanExporter::builder().with_tonic().build() {
        Ok(exporter) => exporter,
        Err(error) => {
            eprintln!("warning: traces are off: {error}");
            return None;
        }
    };
    let resource = Resource::builder().with_service_name(service).build();
    Some(
        SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build(),
    )
}

struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// The span of a request that came in: a child of the caller's.
#[must_use]
pub fn request_span(headers: &http::HeaderMap, path: &str) -> Span {
    let span = tracing::info_span!("grpc", otel.name = path, otel.kind = "server");
    // Without tracing to a collector there is no context to set.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
    span
}

struct One<'a>(&'a str);

impl Extractor for One<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// Lets a span continue a trace that was recorded.
pub fn continue_trace(span: &Span, traceparent: Option<&str>) {
    if let Some(traceparent) = traceparent {
        let _ = span.set_parent(TraceContextPropagator::new().extract(&One(traceparent)));
    }
}

#[derive(Default)]
struct Collected(Option<String>);

impl Injector for Collected {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = Some(value);
        }
    }
}

/// The trace context of the current span; `None` when nothing is traced.
#[must_use]
pub fn traceparent() -> Option<String> {
    let mut collected = Collected::default();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut collected);
    collected.0
}

/// Puts the current span's trace context into a request's metadata.
pub fn inject(metadata: &mut MetadataMap) {
    let Some(value) = traceparent().and_then(|t| t.parse().ok()) else {
        return;
    };
    metadata.insert(MetadataKey::<Ascii>::from_static(TRACEPARENT), value);
}
