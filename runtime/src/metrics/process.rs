//! What the kernel says about this process, read at each scrape (proc(5)).

use std::fmt::Error;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// `USER_HZ`: the unit of times in `/proc/PID/stat`, fixed at 100 by the kernel's ABI on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct ProcessCollector {
    boot_time: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    start_after_boot: f64,
}

impl ProcessCollector {
    pub(super) fn new() -> Self {
        Self { boot_time: fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time(&text)) }
    }
}

/// Fields 14, 15 and 22, counted after the command name, which may hold spaces and brackets itself.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let field = |n: usize| fields.split_whitespace().nth(n - 3)?.parse::<f64>().ok();
    Some(Stat {
        cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
        start_after_boot: field(22)? / TICKS_PER_SECOND,
    })
}

/// `VmRSS` of `/proc/self/status`, in bytes: unlike `statm` it needs no page size.
fn resident_bytes(text: &str) -> Option<i64> {
    let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?;
    kib.trim().parse::<i64>().ok()?.checked_mul(1024)
}

fn boot_time(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

impl Collector for ProcessCollector {
    /// A value that the kernel does not show is left out, never zero.
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let mut gauge = |name, help, value: f64| {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().and_then(|text| resident_bytes(&text)) {
            gauge("process_resident_memory_bytes", "Resident memory", bytes as f64)?;
        }
        if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().and_then(|text| parse_stat(&text)) {
            if let Some(boot) = self.boot_time {
                gauge("process_start_time_seconds", "Start of the process, Unix time", boot + stat.start_after_boot)?;
            }
            let help = "Time on a processor, user and system";
            let cpu = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(stat.cpu_seconds).encode(cpu)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let text =
            "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 12345 1000 200 18446744073709551615";
        assert_eq!(parse_stat(text), Some(Stat { cpu_seconds: 2.0, start_after_boot: 123.45 }));
    }

    #[test]
    fn memory_is_told_in_bytes() {
        assert_eq!(resident_bytes("VmPeak:\t  9 kB\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!(resident_bytes("VmPeak:\t  9 kB\n"), None);
    }
}
