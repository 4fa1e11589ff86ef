//! Whether a rollout's window is open: the calendar of its time zone, read at a given moment.

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use lockkeeper_core::rollout::Window;
use lockkeeper_core::spec::{Date, Day, TimeOfDay, WindowSpec};
use lockkeeper_core::time::WallTime;

/// How many days ahead the next opening is looked for: longer than a year, so that a yearly freeze ends within it.
const DAYS_AHEAD: i64 = 400;

/// Whether targets may start at `now`. A time zone that is not known keeps the window shut.
#[must_use]
pub fn window(spec: Option<&WindowSpec>, now: WallTime) -> Window {
    let Some(spec) = spec else {
        return Window::Open;
    };
    match at(spec, now) {
        Ok(window) => window,
        Err(_) => Window::Shut { opens: None },
    }
}

/// # Errors
/// The time zone is not known here.
pub fn known_time_zone(spec: &WindowSpec) -> Result<TimeZone, jiff::Error> {
    TimeZone::get(&spec.time_zone)
}

fn at(spec: &WindowSpec, now: WallTime) -> Result<Window, jiff::Error> {
    let zone = known_time_zone(spec)?;
    let now = Timestamp::from_millisecond(now.0)?.to_zoned(zone);
    let mut opens = None;
    // The window that began yesterday may reach into today.
    for ahead in -1..=DAYS_AHEAD {
        let day = now.date().checked_add(ahead.days())?;
        let Some((from, to)) = on(spec, day, &now)? else {
            continue;
        };
        let frozen_now = frozen(spec, now.date());
        if from <= now && now < to && !frozen_now {
            return Ok(Window::Open);
        }
        if from > now {
            opens = Some(WallTime(from.timestamp().as_millisecond()));
            break;
        }
    }
    Ok(Window::Shut { opens })
}

/// When it opens and shuts, if it opens on that day.
fn on(spec: &WindowSpec, day: civil::Date, now: &Zoned) -> Result<Option<(Zoned, Zoned)>, jiff::Error> {
    let weekday = Day::ALL[usize::try_from(day.weekday().to_monday_zero_offset()).unwrap_or_default()];
    if (!spec.days.is_empty() && !spec.days.contains(&weekday)) || frozen(spec, day) {
        return Ok(None);
    }
    let zoned = |day: civil::Date, time: TimeOfDay| {
        let (hour, minute) = (time.hour.cast_signed(), time.minute.cast_signed());
        day.at(hour, minute, 0, 0).to_zoned(now.time_zone().clone())
    };
    let last_day = match spec.to <= spec.from {
        true => day.checked_add(1.day())?,
        false => day,
    };
    Ok(Some((zoned(day, spec.from)?, zoned(last_day, spec.to)?)))
}

fn frozen(spec: &WindowSpec, day: civil::Date) -> bool {
    let date = Date {
        year: u16::try_from(day.year()).unwrap_or_default(),
        month: day.month().unsigned_abs(),
        day: day.day().unsigned_abs(),
    };
    spec.freezes.iter().any(|freeze| freeze.holds(date))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: serde_json::Value) -> WindowSpec {
        serde_json::from_value(value).unwrap()
    }

    fn time(text: &str) -> WallTime {
        WallTime(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn opens(text: &str) -> Window {
        Window::Shut {
            opens: Some(time(text)),
        }
    }

    #[test]
    fn working_hours_follow_the_time_zone_with_its_summer_time() {
        let spec = spec(serde_json::json!({
            "time_zone": "Europe/Berlin", "days": ["mon", "tue", "wed", "thu"], "from": "09:00", "to": "16:00"
        }));
        let at = |text| window(Some(&spec), time(text));
        // Thursday, 26 March 2026 is winter time, Monday, 30 March is summer time.
        assert_eq!(at("2026-03-26T07:59:59Z"), opens("2026-03-26T08:00:00Z"));
        assert_eq!(at("2026-03-26T08:00:00Z"), Window::Open);
        assert_eq!(at("2026-03-26T14:59:59Z"), Window::Open);
        assert_eq!(at("2026-03-26T15:00:00Z"), opens("2026-03-30T07:00:00Z"));
    }

    #[test]
    fn a_night_belongs_to_the_day_it_begins_on() {
        let spec = spec(serde_json::json!({
            "time_zone": "UTC", "days": ["fri"], "from": "22:00", "to": "04:00"
        }));
        let at = |text| window(Some(&spec), time(text));
        assert_eq!(at("2026-11-27T23:00:00Z"), Window::Open);
        assert_eq!(at("2026-11-28T03:59:00Z"), Window::Open);
        assert_eq!(at("2026-11-28T04:00:00Z"), opens("2026-12-04T22:00:00Z"));
        assert_eq!(at("2026-11-27T03:00:00Z"), opens("2026-11-27T22:00:00Z"));
    }

    #[test]
    fn nothing_starts_in_a_freeze() {
        let spec = spec(serde_json::json!({
            "time_zone": "UTC", "freezes": [{"from": "2026-12-20", "to": "2027-01-03", "reason": "holidays"}]
        }));
        let at = |text| window(Some(&spec), time(text));
        assert_eq!(at("2026-12-19T23:59:00Z"), Window::Open);
        assert_eq!(at("2026-12-20T00:00:00Z"), opens("2027-01-04T00:00:00Z"));
        assert_eq!(at("2027-01-04T00:00:00Z"), Window::Open);
    }

    #[test]
    fn an_unknown_time_zone_keeps_it_shut() {
        let spec = spec(serde_json::json!({"time_zone": "Mars/Olympus"}));
        assert_eq!(
            window(Some(&spec), time("2026-12-19T23:59:00Z")),
            Window::Shut { opens: None }
        );
        assert_eq!(window(None, time("2026-12-19T23:59:00Z")), Window::Open);
    }
}
