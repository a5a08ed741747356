//! When each request should leave: the open loop's promise, known before the first is sent.
//!
//! A schedule is a row of stages; within one the rate goes in a straight line from where the last
//! stage ended to its own target, as k6's `ramping-arrival-rate` does. Request k leaves when the
//! area under that line reaches k, so nothing is stored per request, and a stall of the server
//! moves no later request: whoever is late is late against this schedule.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One piece of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// How long it takes, in seconds.
    pub duration_s: f64,
    /// The rate at its end, in requests a second.
    pub rate: f64,
}

/// A stage with its place in the whole.
#[derive(Clone, Copy, Debug)]
struct Segment {
    start_s: f64,
    duration_s: f64,
    from: f64,
    to: f64,
    /// Requests before it.
    before: f64,
}

/// The intended send times of all requests, as offsets from the start.
#[derive(Clone, Debug)]
pub struct Schedule {
    segments: Vec<Segment>,
    count: u64,
    duration: Duration,
}

impl Segment {
    fn area(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.duration_s
    }

    /// Requests from its start to `t` seconds into it.
    fn count_until(&self, t: f64) -> f64 {
        self.from * t + (self.to - self.from) * t * t / (2.0 * self.duration_s)
    }

    /// Seconds into it at which `count` requests have left: the inverse of `count_until`.
    fn when(&self, count: f64) -> f64 {
        let slope = (self.to - self.from) / self.duration_s;
        if slope.abs() < 1e-9 {
            return if 0.0 < self.from { count / self.from } else { self.duration_s };
        }
        // The root of slope/2·t² + from·t − count, in the form that does not cancel.
        let root = (self.from * self.from + 2.0 * slope * count).max(0.0).sqrt();
        let t = 2.0 * count / (self.from + root);
        if t.is_finite() { t.min(self.duration_s) } else { 0.0 }
    }
}

impl Schedule {
    /// The same rate all the time.
    #[must_use]
    pub fn constant(rate: f64, duration: Duration) -> Schedule {
        Schedule::new(rate, &[Stage { duration_s: duration.as_secs_f64(), rate }])
    }

    /// Stages, the first of which begins at `from` requests a second.
    #[must_use]
    pub fn new(from: f64, stages: &[Stage]) -> Schedule {
        let (mut start_s, mut before, mut from) = (0.0, 0.0, from);
        let mut segments = Vec::with_capacity(stages.len());
        for stage in stages.iter().filter(|stage| 0.0 < stage.duration_s) {
            let segment =
                Segment { start_s, duration_s: stage.duration_s, from, to: stage.rate, before };
            start_s += segment.duration_s;
            before += segment.area();
            from = stage.rate;
            segments.push(segment);
        }
        // A millionth forgives the rounding of a sum of areas.
        let count = (before + 1e-6).floor() as u64;
        Schedule { segments, count, duration: Duration::from_secs_f64(start_s) }
    }

    /// All requests of the schedule.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// From the start to its end; the last request leaves before.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// When request `k`, from 0, should leave; `None` past the last.
    #[must_use]
    pub fn at(&self, k: u64) -> Option<Duration> {
        if self.count <= k {
            return None;
        }
        let k = k as f64;
        let place = self.segments.partition_point(|segment| segment.before <= k);
        let segment = self.segments.get(place.checked_sub(1)?)?;
        Some(Duration::from_secs_f64(segment.start_s + segment.when(k - segment.before)))
    }

    /// How many requests should have left by then.
    #[must_use]
    pub fn count_until(&self, offset: Duration) -> u64 {
        let t = offset.as_secs_f64();
        let place = self.segments.partition_point(|segment| segment.start_s <= t);
        let Some(segment) = place.checked_sub(1).and_then(|i| self.segments.get(i)) else {
            return 0;
        };
        let inside = (t - segment.start_s).min(segment.duration_s);
        // Request 0 leaves at once, so at t the count is one more than the area.
        let count = (segment.before + segment.count_until(inside)).floor() as u64 + 1;
        count.min(self.count)
    }

    /// The highest rate, in requests a second.
    #[must_use]
    pub fn rate_max(&self) -> f64 {
        self.segments.iter().fold(0.0, |max, segment| segment.from.max(segment.to).max(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(duration_s: f64, rate: f64) -> Stage {
        Stage { duration_s, rate }
    }

    #[track_caller]
    fn close(at: Option<Duration>, expected_s: f64) {
        let at_s = at.expect("a request").as_secs_f64();
        assert!((at_s - expected_s).abs() < 1e-6, "{at_s} is not {expected_s}");
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced() {
        let schedule = Schedule::constant(1000.0, Duration::from_secs(10));
        assert_eq!(schedule.count(), 10_000);
        close(schedule.at(0), 0.0);
        close(schedule.at(1), 0.001);
        close(schedule.at(9_999), 9.999);
        assert_eq!(schedule.at(10_000), None);
    }

    #[test]
    fn a_ramp_covers_its_triangle_and_goes_on_from_there() {
        let schedule = Schedule::new(0.0, &[stage(10.0, 100.0), stage(5.0, 100.0)]);
        assert_eq!(schedule.count(), 1_000);
        close(schedule.at(0), 0.0);
        close(schedule.at(125), 5.0);
        close(schedule.at(500), 10.0);
        close(schedule.at(600), 11.0);
        assert!((schedule.rate_max() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn a_ramp_down_to_nothing_ends() {
        let schedule = Schedule::new(100.0, &[stage(10.0, 0.0)]);
        assert_eq!(schedule.count(), 500);
        close(schedule.at(375), 5.0);
        assert!(schedule.at(499).expect("the last") < schedule.duration());
    }

    #[test]
    fn times_never_go_back_and_agree_with_the_count() {
        let stages = [stage(1.0, 700.0), stage(0.5, 700.0), stage(2.0, 33.0), stage(1.0, 0.0)];
        let schedule = Schedule::new(5.0, &stages);
        let mut last = Duration::ZERO;
        for k in 0..schedule.count() {
            let at = schedule.at(k).expect("a request");
            assert!(last <= at, "request {k}");
            let due = schedule.count_until(at + Duration::from_micros(1));
            assert!(k < due && due <= k + 2, "request {k} at {at:?}: {due} are due");
            last = at;
        }
        assert_eq!(schedule.count_until(schedule.duration()), schedule.count());
    }

    #[test]
    fn an_empty_schedule_has_no_request() {
        let schedule = Schedule::new(10.0, &[]);
        assert_eq!((schedule.count(), schedule.at(0)), (0, None));
        assert_eq!(schedule.count_until(Duration::from_secs(1)), 0);
        assert_eq!(Schedule::new(0.0, &[stage(3.0, 0.0)]).at(0), None);
    }
}
