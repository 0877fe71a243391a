//! Where an object is: AWS's address for a region, or a server's; the bucket in the host's name or in
//! the path.

use crate::ObjectName;
use springtide_config::{S3, S3Endpoint};

/// An object's address, without a query.
pub(super) fn of(config: &S3, region: &str, object: &ObjectName) -> String {
    let (scheme, host) = server(&config.endpoint, region);
    let (bucket, object) = (&config.bucket, object.encoded());
    match config.in_path() {
        true => format!("{scheme}://{host}/{bucket}/{object}"),
        false => format!("{scheme}://{bucket}.{host}/{object}"),
    }
}

/// Where a bucket can be asked for its region.
pub(super) fn of_bucket(config: &S3) -> String {
    let (scheme, host) = match &config.endpoint {
        // The one that knows all of them but China's.
        S3Endpoint::Aws { .. } => ("https", "s3.amazonaws.com".to_owned()),
        at => server(at, ""),
    };
    format!("{scheme}://{host}/{}", config.bucket)
}

fn server(endpoint: &S3Endpoint, region: &str) -> (&'static str, String) {
    match endpoint {
        S3Endpoint::Aws {
            dual_stack,
            accelerate,
        } => {
            let dual = if *dual_stack { ".dualstack" } else { "" };
            let end = domain(region);
            let host = match accelerate {
                true => format!("s3-accelerate{dual}.{end}"),
                false => format!("s3{dual}.{region}.{end}"),
            };
            ("https", host)
        }
        S3Endpoint::At { address, insecure } => {
            let (scheme, port) = match insecure {
                true => ("http", ":80"),
                false => ("https", ":443"),
            };
            // Clients leave both out of what is signed: the port that goes without saying, and
            // capital letters.
            let host = address.strip_suffix(port).unwrap_or(address);
            (scheme, host.to_ascii_lowercase())
        }
    }
}

/// What AWS's addresses in a region end in.
pub(super) fn domain(region: &str) -> &'static str {
    match region.starts_with("cn-") {
        true => "amazonaws.com.cn",
        false => "amazonaws.com",
    }
}

/// The region that one of AWS's addresses has in it: `s3.eu-west-1.amazonaws.com`, its older spelling
/// with a dash, or with `dualstack` before the region.
pub(super) fn region_in(endpoint: &S3Endpoint) -> Option<String> {
    let S3Endpoint::At { address, .. } = endpoint else {
        return None;
    };
    let name = address.split(':').next()?.to_ascii_lowercase();
    let name = name.strip_suffix(".cn").unwrap_or(&name);
    let name = name.strip_suffix(".amazonaws.com")?;
    let at = name.strip_prefix("s3")?.strip_prefix(['.', '-'])?;
    let region = at.strip_prefix("dualstack.").unwrap_or(at);
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    // Others are not regions: `accelerate`, `fips.REGION`.
    let last = region.chars().last()?;
    (region.contains('-') && last.is_ascii_digit() && region.chars().all(fits))
        .then(|| region.to_owned())
}
