//! The life of a machine: made once whatever happens, listed, found, leased, and gone for good.

use super::bench::{Bench, Owner, now, same_marks};
use anyhow::{Context, Result, bail};
use futures_util::future::join_all;
use springtide_plugins::CallError;
use springtide_plugins::contract::{MachineState, PluginError};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Calls made at once.
const AT_ONCE: usize = 4;

/// A token makes one machine, however often `create` is called with it.
pub(super) async fn create(bench: &Bench) -> Result<String> {
    let creation = bench.creation(Owner::First);
    let begun = Instant::now();
    let made = bench.make(&creation).await?;
    let took = begun.elapsed();
    if made.state != MachineState::Running {
        bail!("it was made and is {:?}, not `running`", made.state);
    }
    same_marks(&made, &creation)?;
    let again = bench.make(&creation).await?;
    if again.id != made.id {
        bail!(
            "the same token made {} and then {}: a call that is repeated would leak a machine",
            made.id,
            again.id
        );
    }
    bench.only(&creation.token).await?;
    Ok(format!("running after {:.1} s", took.as_secs_f64()))
}

/// A token makes one machine, too, where the answer of the first call never came.
pub(super) async fn create_lost(bench: &Bench) -> Result<String> {
    let first = bench.creation(Owner::First);
    let begun = Instant::now();
    bench.make(&first).await?;
    let whole = begun.elapsed();
    let mut before = 0;
    // Some calls are dropped when the provider has been asked, some when it has answered.
    for part in [0.3, 0.6, 0.9] {
        let creation = bench.creation(Owner::First);
        let cut = tokio::time::timeout(whole.mul_f64(part), bench.make(&creation)).await;
        let made = bench.make(&creation).await.with_context(|| {
            format!("repeating a create that was dropped after {part} of its time")
        })?;
        same_marks(&made, &creation)?;
        let listed = bench.only(&creation.token).await?;
        if listed.id != made.id {
            bail!("create says {} and the list {}", made.id, listed.id);
        }
        before += usize::from(cut.is_ok());
    }
    Ok(format!(
        "3 calls dropped on the way{}",
        match before {
            0 => String::new(),
            some => format!(", {some} of them when it was done"),
        }
    ))
}

/// Calls at once with one token make one machine.
pub(super) async fn create_at_once(bench: &Bench) -> Result<String> {
    let creation = bench.creation(Owner::First);
    let context = bench.context(Owner::First);
    let calls = (0..AT_ONCE).map(|_| bench.plugin.create(&context, &creation));
    let mut ids = BTreeSet::new();
    let mut waiting = 0;
    for answer in join_all(calls).await {
        match answer {
            Ok(machine) => {
                ids.insert(machine.id);
            }
            // One of them makes it; the others may be told to come back.
            Err(CallError::Plugin(PluginError::Transient(_) | PluginError::Throttled(_))) => {
                waiting += 1;
            }
            Err(error) => bail!("one of {AT_ONCE} calls at once with one token: {error}"),
        }
    }
    ids.insert(bench.make(&creation).await?.id);
    if ids.len() > 1 {
        bail!("{AT_ONCE} calls at once with one token made {ids:?}");
    }
    bench.only(&creation.token).await?;
    Ok(format!(
        "{AT_ONCE} calls, 1 machine, {waiting} told to come back"
    ))
}

/// Calls at once with tokens of their own make a machine each, and none takes another's place.
pub(super) async fn create_several(bench: &Bench) -> Result<String> {
    let creations: Vec<_> = (0..AT_ONCE).map(|_| bench.creation(Owner::First)).collect();
    let made = join_all(creations.iter().map(|creation| bench.make(creation))).await;
    let mut ids = BTreeSet::new();
    for (machine, creation) in made.into_iter().zip(&creations) {
        let machine = machine?;
        same_marks(&machine, creation)?;
        if !ids.insert(machine.id.clone()) {
            bail!("two machines made at once have the id {}", machine.id);
        }
        let listed = bench.only(&creation.token).await?;
        if listed.id != machine.id {
            bail!("create says {} and the list {}", machine.id, listed.id);
        }
    }
    Ok(format!("{AT_ONCE} machines"))
}

/// The list shows a machine within the stated delay, with all it was made with.
pub(super) async fn list(bench: &Bench) -> Result<String> {
    let creation = bench.creation(Owner::First);
    let made = bench.make(&creation).await?;
    let begun = Instant::now();
    let listed = loop {
        let asked = begun.elapsed();
        let all = bench.list().await?;
        if let Some(found) = all.into_iter().find(|one| one.token == creation.token) {
            break found;
        }
        if asked >= bench.list_delay {
            bail!(
                "a list asked for {:.1} s after create answered does not show the machine, and the schema's x-list-delay is {} s",
                asked.as_secs_f64(),
                bench.list_delay.as_secs_f64()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let took = begun.elapsed();
    same_marks(&listed, &creation)?;
    if listed.id != made.id {
        bail!("create says {} and the list {}", made.id, listed.id);
    }
    if matches!(
        listed.state,
        MachineState::Stopped | MachineState::Removing | MachineState::Interrupted
    ) {
        bail!("nobody touched it, and the list says {:?}", listed.state);
    }
    if listed.created_at.abs_diff(now()) > 24 * 3600 {
        bail!(
            "it was made just now, and the list says created-at {}",
            listed.created_at
        );
    }
    Ok(format!("seen after {:.1} s", took.as_secs_f64()))
}

/// A machine is found by its id, and what is not there is `not-found`.
pub(super) async fn get(bench: &Bench) -> Result<String> {
    let creation = bench.creation(Owner::First);
    let made = bench.make(&creation).await?;
    tokio::time::sleep(bench.list_delay).await;
    let context = bench.context(Owner::First);
    let got = bench.plugin.get(&context, &made.id).await;
    let got = got.with_context(|| format!("get {}", made.id))?;
    same_marks(&got, &creation)?;
    if got.id != made.id {
        bail!("get {} answers with {}", made.id, got.id);
    }
    let nothing = nothing_like(&made.id);
    match bench.plugin.get(&context, &nothing).await {
        Err(CallError::Plugin(PluginError::NotFound(_))) => Ok("found, and not-found".into()),
        Err(error) => bail!("get {nothing}, which is not there: {error}; say `not-found`"),
        Ok(machine) => bail!("get {nothing}, which is not there, answers with {machine:?}"),
    }
}

/// A lease that is renewed is listed; ids that are gone stop no other's renewal.
pub(super) async fn lease(bench: &Bench) -> Result<String> {
    let creations = [bench.creation(Owner::First), bench.creation(Owner::First)];
    let mut ids = Vec::new();
    for creation in &creations {
        ids.push(bench.make(creation).await?.id);
    }
    let until = creations[0].lease_until + 7200;
    let asked = [ids[0].clone(), nothing_like(&ids[0])];
    let renewed = bench
        .plugin
        .renew_leases(&bench.context(Owner::First), &asked, until)
        .await;
    renewed.context("renew-leases of a machine and of an id that is gone")?;
    let lease = bench.only(&creations[0].token).await?.lease_until;
    if lease != until {
        bail!("its lease was renewed to {until}, and the list says {lease}");
    }
    let other = bench.only(&creations[1].token).await?.lease_until;
    if other != creations[1].lease_until {
        bail!("a machine whose lease was not renewed has one that ends at {other}");
    }
    Ok("renewed, another's left alone".into())
}

/// A machine that is destroyed goes, and destroying it again is a success, before and after.
pub(super) async fn destroy(bench: &Bench) -> Result<String> {
    let creation = bench.creation(Owner::First);
    let id = bench.make(&creation).await?.id;
    let begun = Instant::now();
    bench.destroy(&id).await?;
    let again = bench.destroy(&id).await;
    again.context("again, while it is being removed")?;
    bench.gone(&id).await?;
    let took = begun.elapsed();
    bench
        .destroy(&id)
        .await
        .context("again, when it is gone: that is a success")?;
    tokio::time::sleep(bench.list_delay).await;
    if bench.list().await?.iter().any(|one| one.id == id) {
        bail!("{id} was gone and is listed again");
    }
    Ok(format!("gone after {:.1} s", took.as_secs_f64()))
}

/// Destroying what never was is a success, and removes nothing.
pub(super) async fn destroy_nothing(bench: &Bench) -> Result<String> {
    let creation = bench.creation(Owner::First);
    let id = bench.make(&creation).await?.id;
    let nothing = nothing_like(&id);
    let destroyed = bench.destroy(&nothing).await;
    destroyed.context("which never was: that is a success")?;
    bench.only(&creation.token).await?;
    Ok(String::new())
}

/// An id of the same form that no machine has.
fn nothing_like(id: &str) -> String {
    let other = |c: char| match c {
        '0'..='8' | 'a'..='e' | 'g'..='y' | 'A'..='Y' => char::from_u32(u32::from(c) + 1),
        '9' => Some('0'),
        'f' | 'z' => Some('a'),
        'Z' => Some('A'),
        _ => None,
    };
    // From the end: what comes first tells of what sort it is.
    let mut letters: Vec<char> = id.chars().collect();
    let mut left = 6;
    for letter in letters.iter_mut().rev() {
        if let Some(changed) = other(*letter) {
            *letter = changed;
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    letters.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::nothing_like;

    #[test]
    fn an_id_that_no_machine_has_has_the_form_of_one() {
        for (id, nothing) in [
            ("i-0123456789abcdef0", "i-0123456789acdefa1"),
            ("i-00000f", "i-11111a"),
            ("kit-a-12", "lju-b-23"),
            ("vm-9zZ", "wn-0aA"),
            ("-", "-"),
        ] {
            assert_eq!(nothing_like(id), nothing);
        }
    }
}
