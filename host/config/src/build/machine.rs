//! `[runners.machine]`: how machines are made and how many stand idle.

use super::World;
use crate::engine::{ENGINE, EngineOptions, Wrong};
use crate::report::{Report, Span};
use crate::schema::nearest;
use crate::walk::{Found, Text};
use crate::{Autoscaling, Machine, MachineOption, OffPeak};
use jiff::tz::TimeZone;
use springtide_period::{Civil, Period};

/// The longest name of a machine.
const LONGEST_NAME: usize = 63;
/// What takes the place of `%s`.
const UNIQUE_PART: usize = 12;

pub(super) fn machine(
    runner: &Found,
    wanted: bool,
    limit: u32,
    world: &World,
    report: &mut Report,
) -> Option<Machine> {
    let Some(found) = runner.table("machine") else {
        if wanted && !runner.has("machine") {
            report.error(
                &runner.at("executor"),
                "there is no [runners.machine] for the runner's executor",
                "write [runners.machine] with MachineDriver and MachineName",
            );
        }
        return None;
    };
    let name = name(found, wanted, report);
    let driver = found.filled("MachineDriver");
    if wanted
        && driver.is_none()
        && (!found.has("MachineDriver") || found.text("MachineDriver").is_some())
    {
        report.error(
            &found.at("MachineDriver"),
            "`MachineDriver` is missing",
            "write MachineDriver = and the name of a driver; `springtide plugin list` shows them",
        );
    }
    idle(found, "IdleCount", limit, report);
    newer(found, report);
    let mut periods = Periods { world, report };
    let autoscaling: Vec<Autoscaling> = found
        .tables("autoscaling")
        .iter()
        .map(|section| periods.section(section, limit))
        .collect();
    let off_peak = periods.off_peak(found, !autoscaling.is_empty());
    let machine_options = options(found, "MachineOptions", report);
    let machine_options_with_name = options(found, "MachineOptionsWithName", report);
    Some(Machine {
        idle_count: found.count("IdleCount").unwrap_or(0),
        idle_count_min: found.count("IdleCountMin").unwrap_or(0),
        idle_scale_factor: found.float("IdleScaleFactor").unwrap_or(0.0),
        idle_time: found.count("IdleTime").unwrap_or(0),
        max_growth_rate: found.count("MaxGrowthRate").unwrap_or(0),
        max_builds: found.count("MaxBuilds").unwrap_or(0),
        machine_name: name.unwrap_or_default(),
        machine_driver: driver.unwrap_or_default().to_owned(),
        machine_driver_at: report.position(&found.at("MachineDriver")),
        machine_options,
        machine_options_with_name,
        autoscaling,
        off_peak,
    })
}

/// The template of names, in the letters a machine's name may have.
fn name(found: &Found, wanted: bool, report: &mut Report) -> Option<String> {
    let advice = "write a name with %s where the part goes that tells machines apart, such as MachineName = \"ci-%s\"";
    let at = found.at("MachineName");
    let Some(name) = found.filled("MachineName") else {
        if wanted && (!found.has("MachineName") || found.text("MachineName").is_some()) {
            report.error(&at, "`MachineName` is missing", advice);
        }
        return None;
    };
    match name.matches("%s").count() {
        0 => {
            report.error(
                &at,
                format!("`MachineName` is {name:?}, and every machine would have the same name"),
                advice,
            );
            return None;
        }
        1 => {}
        _ => {
            report.error(
                &at,
                format!("`MachineName` is {name:?}, with %s more than once"),
                advice,
            );
            return None;
        }
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let fits: String = name
        .replace("%s", "")
        .chars()
        .filter(|c| !plain(*c) && *c != '.' && *c != '_')
        .collect();
    if !fits.is_empty() {
        report.error(
            &at,
            format!("`MachineName` has {fits:?} in it, which no machine's name may have"),
            "write letters, digits and `-` beside %s",
        );
        return None;
    }
    let longest = LONGEST_NAME - UNIQUE_PART;
    if name.len() - 2 > longest {
        report.error(
            &at,
            format!("`MachineName` is longer than a machine's name may be, {LONGEST_NAME} with the part for %s"),
            format!("write {longest} letters at most beside %s"),
        );
        return None;
    }
    let here = name
        .replace("%s", "\0")
        .to_ascii_lowercase()
        .replace(['.', '_'], "-")
        .replace('\0', "%s");
    if here != name {
        report.warning(
            &at,
            format!("`MachineName` is taken as {here:?}: names of machines are small letters, digits and `-`"),
            format!("write MachineName = {here:?}"),
        );
    }
    Some(here)
}

/// Whether the counts of idle machines make sense together, in the table or a section of it.
fn idle(found: &Found, name: &str, limit: u32, report: &mut Report) {
    let count = found.count(name).unwrap_or(0);
    let least = found.count("IdleCountMin").unwrap_or(0);
    let factor = found.float("IdleScaleFactor").unwrap_or(0.0);
    if limit > 0 && count > limit {
        report.warning(
            &found.at(name),
            format!(
                "`{name}` is {count}, and `limit` of the runner allows {limit} machines in all"
            ),
            format!("write {limit} or less, or a larger limit"),
        );
    }
    if factor > 0.0 && count == 0 {
        report.warning(
            &found.at("IdleScaleFactor"),
            "`IdleScaleFactor` does nothing where `IdleCount`, the most idle machines, is 0",
            "write an IdleCount above 0, or delete IdleScaleFactor",
        );
    } else if factor > 0.0 && least > count {
        report.warning(
            &found.at("IdleCountMin"),
            format!("`IdleCountMin` is {least}, and above `IdleCount`, which is {count}"),
            format!("write {count} or less"),
        );
    }
    if factor == 0.0 && least > 0 {
        report.warning(
            &found.at("IdleCountMin"),
            "`IdleCountMin` does nothing without `IdleScaleFactor`",
            "write IdleScaleFactor = 1.0 or another number above 0, or delete IdleCountMin",
        );
    }
}

/// Keys that are newer than what is obeyed here.
fn newer(found: &Found, report: &mut Report) {
    for name in ["MaxAge", "HeartbeatInterval"] {
        if found.number(name).is_some_and(|number| number > 0) {
            report.warning(
                &found.key_at(name),
                format!("`{name}` is not obeyed here"),
                "delete it",
            );
        }
    }
}

fn options(found: &Found, name: &str, report: &mut Report) -> Vec<MachineOption> {
    let mut options = Vec::new();
    for entry in found.texts(name) {
        let option = MachineOption::read(&entry.text, report.position(&entry.at));
        if option.flag.trim().is_empty() {
            report.error(
                &entry.at,
                format!("an option of `{name}` has no name"),
                "write \"option=value\", or \"option\" for true",
            );
        } else if option.flag.contains(char::is_whitespace) {
            report.error(
                &entry.at,
                format!("the option {:?} has a blank in its name", option.flag),
                "write \"option=value\", with = and without dashes in front",
            );
        } else if name == "MachineOptionsWithName" && !entry.text.contains("%s") {
            report.error(
                &entry.at,
                format!(
                    "the option {:?} has no %s for the machine's name",
                    option.flag
                ),
                "write %s where the name goes, or move it to MachineOptions",
            );
        } else {
            of_host(&option, &entry.at, report);
            options.push(option);
        }
    }
    options
}

/// Options that are not the driver's.
fn of_host(option: &MachineOption, at: &Span, report: &mut Report) {
    let flag = option.flag.as_str();
    if flag.starts_with("swarm") {
        report.warning(
            at,
            format!("the option {flag:?} is ignored: there is no swarm of machines"),
            "delete it",
        );
    } else if flag == "tls-san" {
        report.warning(
            at,
            "the option \"tls-san\" is ignored: Docker is reached through SSH, and has no certificates",
            "delete it",
        );
    } else if flag == "engine-opt" && names_a_host(option) {
        report.warning(
            at,
            "the flag `host` of dockerd is not obeyed: Docker is reached through SSH, and opens no port",
            "delete it",
        );
    } else if option.is_host() && !ENGINE.contains(&flag) {
        let advice = match nearest(flag, ENGINE) {
            Some(near) => format!("write {near}, or delete it"),
            None => format!("write one of {}, or delete it", ENGINE.join(", ")),
        };
        report.warning(
            at,
            format!("there is no option {flag:?}, and it is ignored"),
            advice,
        );
    } else {
        // Where %s stands, a machine's name will.
        let value = option
            .value
            .as_ref()
            .map(|value| value.replace("%s", "ci-1"));
        if let Err(Wrong { what, example }) = EngineOptions::default().take(flag, value.as_deref())
        {
            report.error(
                at,
                format!("the option {flag:?} has to be {what}"),
                format!("write \"{flag}={example}\""),
            );
        }
    }
}

/// Whether it tells dockerd where to listen.
fn names_a_host(option: &MachineOption) -> bool {
    let flag = option
        .value
        .as_deref()
        .and_then(|value| value.split('=').next());
    matches!(flag, Some("host" | "hosts"))
}

/// Reads periods.
struct Periods<'p, 'w, 's> {
    world: &'p World<'w>,
    report: &'p mut Report<'s>,
}

impl Periods<'_, '_, '_> {
    fn section(&mut self, found: &Found, limit: u32) -> Autoscaling {
        idle(found, "IdleCount", limit, self.report);
        let timezone = self.zone(found, "Timezone");
        self.list(found.texts("Periods"), timezone.as_ref());
        if found.texts("Periods").is_empty() && (!found.has("Periods") || found.errors == 0) {
            self.report.warning(
                &found.at("Periods"),
                "the section has no `Periods`, and never holds",
                "write Periods = [\"* * 9-17 * * mon-fri *\"], or delete it",
            );
        }
        Autoscaling {
            periods: found.strings("Periods"),
            timezone: found.text("Timezone").unwrap_or_default().to_owned(),
            idle_count: found.count("IdleCount").unwrap_or(0),
            idle_count_min: found.count("IdleCountMin").unwrap_or(0),
            idle_scale_factor: found.float("IdleScaleFactor").unwrap_or(0.0),
            idle_time: found.count("IdleTime").unwrap_or(0),
        }
    }

    /// `OffPeak*`: as before GitLab Runner 14.0, nothing where there are sections.
    fn off_peak(&mut self, found: &Found, sections: bool) -> Option<OffPeak> {
        let names = [
            "OffPeakPeriods",
            "OffPeakTimezone",
            "OffPeakIdleCount",
            "OffPeakIdleTime",
        ];
        let first = names.iter().find(|name| found.has(name))?;
        let timezone = self.zone(found, "OffPeakTimezone");
        self.list(found.texts("OffPeakPeriods"), timezone.as_ref());
        if sections {
            self.report.warning(
                &found.key_at(first),
                "`OffPeak*` does nothing where there is a [[runners.machine.autoscaling]] section",
                "write it as a section of its own, with Periods, Timezone, IdleCount and IdleTime, or delete it",
            );
            return None;
        }
        if found.texts("OffPeakPeriods").is_empty() {
            self.report.warning(
                &found.key_at(first),
                "there is no period in `OffPeakPeriods`, and it is never off-peak",
                "write OffPeakPeriods = [\"* * 0-8,18-23 * * mon-fri *\"], or delete the keys that begin with OffPeak",
            );
            return None;
        }
        Some(OffPeak {
            periods: found.strings("OffPeakPeriods"),
            timezone: found.text("OffPeakTimezone").unwrap_or_default().to_owned(),
            idle_count: found.count("OffPeakIdleCount").unwrap_or(0),
            idle_time: found.count("OffPeakIdleTime").unwrap_or(0),
        })
    }

    fn zone(&mut self, found: &Found, name: &str) -> Option<TimeZone> {
        let text = found.text(name).unwrap_or_default();
        if text.is_empty() || text == "Local" {
            return Some(TimeZone::system());
        }
        if let Ok(zone) = TimeZone::get(text) {
            return Some(zone);
        }
        let zones: Vec<String> = jiff::tz::db()
            .available()
            .map(|zone| zone.as_str().to_owned())
            .collect();
        let advice = match nearest(text, zones.iter().map(String::as_str)) {
            Some(near) => format!("write {near:?}"),
            None => "write a name such as \"Europe/Berlin\", or \"UTC\"".to_owned(),
        };
        self.report.error(
            &found.at(name),
            format!("there is no time zone {text:?}"),
            advice,
        );
        None
    }

    fn list(&mut self, periods: &[Text], zone: Option<&TimeZone>) {
        for Text { text, at } in periods {
            match Period::parse(text) {
                Ok(period) => self.sense(text, &period, at, zone),
                // It says what to write itself.
                Err(error) => self.report.error(at, error.to_string(), ""),
            }
        }
    }

    /// Whether a period ever holds, and says what it means.
    fn sense(&mut self, text: &str, period: &Period, at: &Span, zone: Option<&TimeZone>) {
        let dead = Period::dead_entries(text);
        for entry in &dead {
            self.report.warning(
                at,
                format!(
                    "{:?} in the {} field of {text:?} is taken as GitLab Runner takes it, not as it reads",
                    entry.entry, entry.field
                ),
                format!("write {:?}", entry.instead),
            );
        }
        let Some(zone) = zone else { return };
        let never = period.never_again(&civil(self.world.now, zone));
        if never && dead.is_empty() {
            self.report.warning(
                at,
                format!("the period {text:?} never holds again"),
                "write a year to come or *, or delete it",
            );
        }
        let fields = text.split_whitespace().count();
        if fields < 7 && !text.trim_start().starts_with('@') {
            self.report.warning(
                at,
                format!(
                    "the period {text:?} has {fields} fields, and so holds for the first second of a minute alone"
                ),
                "write seven: second, minute, hour, day of month, month, day of week, year",
            );
        }
    }
}

/// What the clocks of a zone show.
fn civil(now: jiff::Timestamp, zone: &TimeZone) -> Civil {
    let shown = zone.to_datetime(now);
    let number = |value: i8| u32::try_from(value).unwrap_or_default();
    Civil {
        year: u32::try_from(shown.year()).unwrap_or_default(),
        month: number(shown.month()),
        day: number(shown.day()),
        hour: number(shown.hour()),
        minute: number(shown.minute()),
        second: number(shown.second()),
        weekday: number(shown.weekday().to_sunday_zero_offset()),
    }
}
