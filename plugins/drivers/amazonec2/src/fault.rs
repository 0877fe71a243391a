//! What EC2 says when it does not do what it was asked, and what that means to the host.

use springtide_sdk::PluginError;

/// How long a throttled account is left alone, in milliseconds, where EC2 does not say.
const LEFT_ALONE: u32 = 5_000;
/// The longest wait the contract allows, in milliseconds.
const LONGEST: u32 = 600_000;

/// Stands for the code of an error that is none of EC2's, or that can't be read.
pub(crate) const UNREADABLE: &str = "";

/// Why a request failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// EC2 answered with an error.
    Told(Told),
    /// There was no answer, or none that can be read.
    Unanswered(PluginError),
    /// The answer was larger than the host takes.
    TooLarge,
}

/// An error of EC2's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) action: &'static str,
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    /// Seconds EC2 asks to wait.
    pub(crate) retry_after: Option<u32>,
}

/// What an error of EC2's comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Throttled,
    Quota,
    Capacity,
    Denied,
    Gone,
    Wrong,
    Later,
    Never,
}

fn sort(code: &str, status: u16) -> Sort {
    match code {
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "RequestThrottled"
        | "EC2ThrottledException"
        | "BandwidthLimitExceeded"
        | "SlowDown" => Sort::Throttled,
        "InsufficientInstanceCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientReservedInstanceCapacity"
        | "InsufficientCapacity"
        | "InsufficientCapacityOnHost"
        | "InsufficientAddressCapacity"
        | "InsufficientFreeAddressesInSubnet"
        | "InsufficientVolumeCapacity"
        | "SpotMaxPriceTooLow"
        | "Unsupported"
        | "UnfulfillableCapacity" => Sort::Capacity,
        "MaxSpotInstanceCountExceeded" | "MaxSpotFleetRequestCountExceeded" => Sort::Quota,
        "UnauthorizedOperation"
        | "AuthFailure"
        | "AccessDenied"
        | "AccessDeniedException"
        | "Blocked"
        | "OptInRequired"
        | "PendingVerification"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "IncompleteSignature"
        | "SignatureDoesNotMatch"
        | "RequestExpired"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "ValidationError"
        | "NotAuthorized"
        | "DryRunOperation"
        | "UnrecognizedClientException" => Sort::Denied,
        "InternalError"
        | "InternalFailure"
        | "InternalServerError"
        | "ServiceUnavailable"
        | "Unavailable"
        | "RequestTimeout"
        | "IncorrectInstanceState"
        | "IncorrectState"
        | "DependencyViolation"
        | "VolumeInUse"
        | "InvalidNetworkInterface.InUse"
        | "InvalidGroup.InUse"
        | "ConcurrentModification"
        | "OperationInProgress"
        | "ResourceCountLimitedTemporarily" => Sort::Later,
        _ if status >= 500 => Sort::Later,
        _ if status == 429 => Sort::Throttled,
        UNREADABLE if matches!(status, 401 | 403) => Sort::Denied,
        // Cut on its way, or by somebody between: the next one may say why.
        UNREADABLE => Sort::Later,
        _ if code.ends_with("LimitExceeded") || code.ends_with("QuotaExceeded") => Sort::Quota,
        _ if code.ends_with(".NotFound") => Sort::Gone,
        // An id that can't be one names nothing.
        _ if code.ends_with("ID.Malformed") || code.ends_with("Id.Malformed") => Sort::Gone,
        _ if code.starts_with("Invalid") || code.starts_with("Missing") => Sort::Wrong,
        // A role or a profile that IAM does not have.
        "NoSuchEntity" | "UnsupportedOperation" | "UnknownParameter" => Sort::Wrong,
        _ => Sort::Never,
    }
}

impl Told {
    fn sort(&self) -> Sort {
        sort(&self.code, self.status)
    }

    /// Whether what was named does not exist.
    pub(crate) fn is_gone(&self) -> bool {
        self.sort() == Sort::Gone
    }

    /// Whether another type, zone or market may have what was asked for.
    pub(crate) fn is_short(&self) -> bool {
        self.sort() == Sort::Capacity
    }

    /// Whether the account has all the spot instances it may have.
    pub(crate) fn is_spot_quota(&self) -> bool {
        self.code.starts_with("MaxSpot")
    }

    /// What is shown to a person.
    fn text(&self) -> String {
        let Told {
            action,
            code,
            message,
            ..
        } = self;
        let said = match (code.as_str(), message.is_empty()) {
            (UNREADABLE, _) => format!(
                "{action}: HTTP status {} with no error of EC2's",
                self.status
            ),
            (code, true) => format!("{action}: {code}"),
            (code, false) => format!("{action}: {code}: {message}"),
        };
        let advice = match code.as_str() {
            "UnauthorizedOperation" | "AccessDenied" => {
                "; allow this action in the IAM policy, see docs/iam.md"
            }
            "RequestExpired" | "SignatureDoesNotMatch" => {
                "; set this host's clock, and look whether the secret key is whole"
            }
            "ExpiredToken" | "AuthFailure" | "InvalidClientTokenId" => {
                "; give the credential \"aws\" a key that is valid in this region"
            }
            "VcpuLimitExceeded" | "InstanceLimitExceeded" => {
                "; ask AWS for a higher quota, or lower `limit`"
            }
            _ => "",
        };
        format!("{said}{advice}")
    }
}

impl Fault {
    pub(crate) fn told(&self) -> Option<&Told> {
        match self {
            Fault::Told(told) => Some(told),
            _ => None,
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.told().is_some_and(Told::is_gone)
    }

    /// What is shown to a person.
    pub(crate) fn text(&self) -> String {
        match self {
            Fault::Told(told) => told.text(),
            Fault::Unanswered(PluginError::Denied(text) | PluginError::Transient(text)) => {
                text.clone()
            }
            Fault::Unanswered(error) => format!("{error:?}"),
            Fault::TooLarge => "EC2's answer is larger than the host takes".into(),
        }
    }

    pub(crate) fn has_code(&self, code: &str) -> bool {
        self.told().is_some_and(|told| told.code == code)
    }
}

impl From<Fault> for PluginError {
    fn from(fault: Fault) -> PluginError {
        let told = match fault {
            Fault::Told(told) => told,
            Fault::Unanswered(error) => return error,
            Fault::TooLarge => {
                return PluginError::Permanent(Fault::TooLarge.text());
            }
        };
        let text = told.text();
        match told.sort() {
            Sort::Throttled => {
                let asked = told.retry_after.map(|seconds| seconds.saturating_mul(1000));
                PluginError::Throttled(asked.unwrap_or(LEFT_ALONE).clamp(1, LONGEST))
            }
            Sort::Quota => PluginError::Quota(text),
            Sort::Capacity => PluginError::Capacity(text),
            Sort::Denied => PluginError::Denied(text),
            Sort::Gone => PluginError::NotFound(text),
            Sort::Wrong => PluginError::InvalidConfig(text),
            Sort::Later => PluginError::Transient(text),
            Sort::Never => PluginError::Permanent(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_ec2s_is_the_error_the_host_acts_on() {
        let named = [
            ("RequestLimitExceeded", 503, Sort::Throttled),
            ("Throttling", 400, Sort::Throttled),
            ("NoSuchEntity", 400, Sort::Wrong),
            ("Whatever", 429, Sort::Throttled),
            ("InstanceLimitExceeded", 400, Sort::Quota),
            ("VcpuLimitExceeded", 400, Sort::Quota),
            ("MaxSpotInstanceCountExceeded", 400, Sort::Quota),
            ("VolumeLimitExceeded", 400, Sort::Quota),
            ("InsufficientInstanceCapacity", 500, Sort::Capacity),
            ("SpotMaxPriceTooLow", 400, Sort::Capacity),
            ("Unsupported", 400, Sort::Capacity),
            ("UnauthorizedOperation", 403, Sort::Denied),
            ("AuthFailure", 401, Sort::Denied),
            ("RequestExpired", 400, Sort::Denied),
            ("InvalidInstanceID.NotFound", 400, Sort::Gone),
            ("InvalidInstanceID.Malformed", 400, Sort::Gone),
            ("InvalidAMIID.NotFound", 400, Sort::Gone),
            ("InvalidParameterValue", 400, Sort::Wrong),
            ("MissingParameter", 400, Sort::Wrong),
            ("DependencyViolation", 400, Sort::Later),
            ("InternalError", 500, Sort::Later),
            (UNREADABLE, 400, Sort::Later),
            (UNREADABLE, 403, Sort::Denied),
            ("Whatever", 502, Sort::Later),
            ("OperationNotPermitted", 400, Sort::Never),
        ];
        for (code, status, wanted) in named {
            assert_eq!(sort(code, status), wanted, "{code} with {status}");
        }
    }

    #[test]
    fn a_wait_is_ec2s_own_where_it_says_one_and_in_the_contracts_range() {
        let wait = |retry_after| {
            let fault = Fault::Told(Told {
                action: "RunInstances",
                status: 503,
                code: "RequestLimitExceeded".into(),
                message: String::new(),
                retry_after,
            });
            PluginError::from(fault)
        };
        assert_eq!(wait(None), PluginError::Throttled(5_000));
        assert_eq!(wait(Some(7)), PluginError::Throttled(7_000));
        assert_eq!(wait(Some(u32::MAX)), PluginError::Throttled(600_000));
    }
}
