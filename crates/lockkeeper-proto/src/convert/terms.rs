//! What a rollout asks for beside its targets: windows, shares and conditions.

use lockkeeper_core::spec::{Date, Day, Freeze, HealthCheck, Share, TimeOfDay, WindowSpec};

use super::FieldError;
use crate::v1;
use crate::v1::health_check::Probe;
use crate::v1::rollout_spec::MaxFenced;

impl From<Share> for MaxFenced {
    fn from(share: Share) -> Self {
        match share {
            Share::Count(count) => Self::MaxFencedCount(u32::try_from(count.get()).unwrap_or(u32::MAX)),
            Share::Percent(percent) => Self::MaxFencedPercent(percent.into()),
        }
    }
}

pub(super) fn share(message: MaxFenced) -> Result<Share, FieldError> {
    let share = match message {
        MaxFenced::MaxFencedCount(count) => Share::count(count as usize),
        MaxFenced::MaxFencedPercent(percent) => Share::percent(percent),
    };
    share.map_err(|e| FieldError::new("max_fenced", e))
}

impl From<WindowSpec> for v1::Window {
    fn from(window: WindowSpec) -> Self {
        let freeze = |freeze: Freeze| v1::Freeze {
            from: freeze.from.to_string(),
            to: freeze.to.to_string(),
            reason: freeze.reason,
        };
        Self {
            time_zone: window.time_zone,
            days: window.days.into_iter().map(|day| day.to_string()).collect(),
            from: window.from.to_string(),
            to: window.to.to_string(),
            freezes: window.freezes.into_iter().map(freeze).collect(),
        }
    }
}

fn time(field: &str, text: &str) -> Result<TimeOfDay, FieldError> {
    match text {
        "" => Ok(TimeOfDay::default()),
        text => text.parse().map_err(|e| FieldError::new(field, e)),
    }
}

fn date(field: &str, text: &str) -> Result<Date, FieldError> {
    text.parse().map_err(|e| FieldError::new(field, e))
}

fn day(text: &str) -> Result<Day, FieldError> {
    text.parse().map_err(|e| FieldError::new("days", e))
}

impl TryFrom<v1::Window> for WindowSpec {
    type Error = FieldError;

    fn try_from(message: v1::Window) -> Result<Self, FieldError> {
        let freeze = |freeze: v1::Freeze| {
            Ok::<_, FieldError>(Freeze {
                from: date("freezes.from", &freeze.from)?,
                to: date("freezes.to", &freeze.to)?,
                reason: freeze.reason,
            })
        };
        Ok(Self {
            time_zone: message.time_zone,
            days: message
                .days
                .iter()
                .map(|text| day(text))
                .collect::<Result<_, _>>()?,
            from: time("from", &message.from)?,
            to: time("to", &message.to)?,
            freezes: message
                .freezes
                .into_iter()
                .map(freeze)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<HealthCheck> for v1::HealthCheck {
    fn from(check: HealthCheck) -> Self {
        let name = check.name().to_owned();
        let probe = match check {
            HealthCheck::Sql { query, .. } => Probe::Sql(query),
            HealthCheck::Http { url, status, .. } => Probe::Http(v1::HttpProbe {
                url,
                status: status.into(),
            }),
            HealthCheck::Prometheus { url, query, .. } => {
                Probe::Prometheus(v1::PrometheusProbe { url, query })
            }
            HealthCheck::Command { run, .. } => Probe::Command(run),
        };
        Self {
            name,
            probe: Some(probe),
        }
    }
}

impl TryFrom<v1::HealthCheck> for HealthCheck {
    type Error = FieldError;

    fn try_from(message: v1::HealthCheck) -> Result<Self, FieldError> {
        let name = message.name;
        Ok(match message.probe {
            Some(Probe::Sql(query)) => Self::Sql { name, query },
            Some(Probe::Http(http)) => Self::Http {
                name,
                url: http.url,
                status: match u16::try_from(http.status) {
                    Ok(0) => 200,
                    Ok(status) => status,
                    Err(error) => return Err(FieldError::new("http.status", error)),
                },
            },
            Some(Probe::Prometheus(v1::PrometheusProbe { url, query })) => {
                Self::Prometheus { name, url, query }
            }
            Some(Probe::Command(run)) => Self::Command { name, run },
            None => {
                return Err(FieldError::new(
                    "probe",
                    "one of sql, http, prometheus or command is needed",
                ));
            }
        })
    }
}
