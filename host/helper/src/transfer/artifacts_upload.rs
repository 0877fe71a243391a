//! Artifacts to GitLab. The archive is written into the request as it is sent; no copy lies on the
//! disk. Each try writes it anew.

use super::http::{Answer, Client, api, cleaned, origin, query};
use super::multipart::Form;
use super::pipe::pipe;
use super::retry::{Failed, retry};
use super::{Stop, say, words};
use crate::archive::{
    PackError, Packing, Project, Selection, select, write_gzip, write_raw, write_zip,
};
use secrecy::ExposeSecret;
use springtide_helper::{ArtifactFormat, ArtifactsUpload, TransferEnd};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

/// Uploads what matches.
pub(super) fn run(order: &ArtifactsUpload, project: &Path) -> Result<TransferEnd, Stop> {
    words::good("Uploading artifacts...");
    let project = Project::at(project).map_err(|error| Stop::here("opening the project", error))?;
    let selection = select(&project, &order.files, &say)
        .map_err(|error| Stop::here("looking for artifacts", error))?;
    if selection.is_empty() {
        words::error("No files to upload");
        return Ok(TransferEnd::Nothing);
    }
    let upload = Upload {
        order,
        project: &project,
        selection: &selection,
        client: Client::new(&order.calls)?,
        format: order.format.unwrap_or(ArtifactFormat::Zip),
    };
    let mut base = order.url.clone();
    retry(&order.calls, "artifacts-uploader", |_| {
        upload.once(&mut base)
    })?;
    Ok(TransferEnd::Done)
}

struct Upload<'a> {
    order: &'a ArtifactsUpload,
    project: &'a Project,
    selection: &'a Selection,
    client: Client,
    format: ArtifactFormat,
}

impl Upload<'_> {
    /// One try. A GitLab that sends it elsewhere changes where the next one goes.
    fn once(&self, base: &mut String) -> Result<(), Failed> {
        let (answer, sent) = self.post(base)?;
        let order = self.order;
        let kind = order.kind.as_deref().filter(|kind| !kind.is_empty());
        let doing = match kind {
            Some(kind) => format!("Uploading artifacts as {kind:?} to coordinator..."),
            None => "Uploading artifacts to coordinator...".to_owned(),
        };
        let (code, status) = (answer.code(), answer.status());
        let (id, number) = (order.job.to_string(), code.to_string());
        let location = answer.header("location").map(str::to_owned);
        let message = format!("{doing} {}", answer.told());
        let token = words::shortened(order.token.expose_secret());
        let mut fields = vec![("id", &*id), ("responseStatus", &*status)];
        if code != 201 {
            fields.push(("status", &*number));
        }
        fields.push(("token", token));
        let why = format!("GitLab answered {status} to the upload of artifacts");
        match code {
            201 => {
                words::info(&message, &fields);
                return Ok(());
            }
            307 => {
                *base = redirected(base, location.as_deref(), &message, &fields)?;
                return Err(Stop::MayBeRetried("request redirected".to_owned()).into());
            }
            401 | 403 | 404 | 405 => words::error_with(&message, &fields),
            413 => {
                words::error_with(&message, &fields);
                return Err(Stop::ForGood(too_large(sent, kind)).into());
            }
            503 => {
                words::error_with(&message, &fields);
                return Err(Failed::Busy("service unavailable".to_owned()));
            }
            _ => {
                words::warning(&message, &fields);
                return Err(Stop::MayBeRetried(why).into());
            }
        }
        Err(Stop::ForGood(why).into())
    }

    /// Sends the archive while it is written. Returns the answer, and how many bytes were taken.
    fn post(&self, base: &str) -> Result<(Answer, u64), Failed> {
        let order = self.order;
        let form = Form::new(&self.filename())
            .map_err(|error| Stop::here("beginning the upload", error))?;
        let url = self.url(base);
        let content_type = form.content_type();
        let headers = [
            ("JOB-TOKEN", order.token.expose_secret()),
            ("content-type", &content_type),
            // A refusal comes before the archive is sent.
            ("expect", "100-continue"),
        ];
        let (writer, reader) = pipe();
        let mut counted = Counted {
            inner: reader,
            bytes: 0,
        };
        let (packed, answer) = std::thread::scope(|scope| {
            let packing = scope.spawn(move || self.pack(writer));
            let answer = {
                let mut body = form.around(&mut counted);
                self.client.send(&url, None, &headers, &mut body)
            };
            let sent = counted.bytes;
            // A writer that waits sees that nobody takes any more.
            drop(counted);
            let packed = packing.join();
            (packed, answer.map(|answer| (answer, sent)))
        });
        match packed {
            Ok(Ok(())) => Ok(answer?),
            // The upload was over before the archive was; the answer says why.
            Ok(Err(PackError::Out(error))) if error.kind() == ErrorKind::BrokenPipe => Ok(answer?),
            Ok(Err(error)) => Err(Stop::ForGood(error.to_string()).into()),
            Err(_) => Err(Stop::ForGood("writing the archive failed".to_owned()).into()),
        }
    }

    fn pack(&self, mut writer: super::pipe::Writer) -> Result<(), PackError> {
        let to: &mut dyn Write = &mut writer;
        let level = self.order.level;
        match self.format {
            ArtifactFormat::Zip => {
                write_zip(
                    self.project,
                    self.selection,
                    Packing::Deflate(level),
                    &say,
                    to,
                )?;
            }
            ArtifactFormat::Gzip => write_gzip(self.project, self.selection, level, to)?,
            ArtifactFormat::Raw => write_raw(self.project, self.selection, to)?,
        }
        Ok(writer.finish()?)
    }

    fn url(&self, base: &str) -> String {
        let order = self.order;
        let format = order.format.map(ArtifactFormat::name);
        let parameters = [
            ("artifact_format", format),
            ("artifact_type", order.kind.as_deref()),
            ("expire_in", order.expire_in.as_deref()),
        ];
        let parameters: Vec<String> = parameters
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)))
            .map(|(name, value)| format!("{name}={}", query(value)))
            .collect();
        let (api, job) = (api(base), order.job);
        format!("{api}jobs/{job}/artifacts?{}", parameters.join("&"))
    }

    /// The archive's name: the last part of the order's, with the suffix of its format.
    fn filename(&self) -> String {
        let name = self.order.name.trim_end_matches('/');
        let name = match name.rsplit('/').next().unwrap_or_default() {
            "" | "." => "default",
            name => name,
        };
        match self.format {
            ArtifactFormat::Zip => format!("{name}.zip"),
            ArtifactFormat::Gzip => format!("{name}.gz"),
            ArtifactFormat::Raw => name.to_owned(),
        }
    }
}

/// Where a redirected upload goes: the same request at the other host.
fn redirected(
    base: &str,
    location: Option<&str>,
    message: &str,
    fields: &words::Fields,
) -> Result<String, Stop> {
    let Some(location) = location else {
        words::error_with(&format!("{message} empty location"), fields);
        return Err(Stop::MayBeRetried(
            "GitLab redirects the upload to nowhere".to_owned(),
        ));
    };
    let Some(to) = origin(location) else {
        return Err(Stop::ForGood(
            "GitLab redirects the upload to what is no address".to_owned(),
        ));
    };
    words::warning(
        "Upload request redirected",
        &[("location", &*cleaned(location)), ("new-url", &*to)],
    );
    // The job's token goes along.
    if base.starts_with("https:") && !to.starts_with("https:") {
        return Err(Stop::ForGood(format!(
            "GitLab redirects the upload from https to {to}, where the job's token could be read \
             on the way"
        )));
    }
    Ok(to)
}

/// What a person can do about a 413.
fn too_large(sent: u64, kind: Option<&str>) -> String {
    let seen = match sent {
        0 => "before any of it was sent".to_owned(),
        sent => format!("after {} MiB of it", sent >> 20),
    };
    let kind = match kind {
        None | Some("archive") => String::new(),
        Some(kind) => format!(" (for reports of type {kind} there is a plan limit of its own)"),
    };
    format!(
        "too large: the archive was refused {seen}. GitLab takes artifacts up to \"Maximum artifacts \
         size (MB)\", 100 by default, which an administrator can raise for the instance (Admin > \
         Settings > CI/CD), a group or the project{kind}. A proxy in front of GitLab can have a lower \
         limit, such as nginx's client_max_body_size. Or archive less: artifacts:exclude, or several \
         jobs"
    )
}

struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
