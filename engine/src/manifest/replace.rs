//! A compaction's replacement of SSTs in the list of runs.
//!
//! ```text
//! level 0   [f] [e] [d]          inputs d, x, y; outputs go to level 1
//! level 1   [ v  x  y  z ]
//!
//! level 0   [f] [e]
//! level 1   [ v  o1 o2  z ]      joined into the run that lost x and y
//! ```
//!
//! Outputs take the place of the newest input run at their level, or come first in the level if no input
//! was there. They join the run that lies at that place if they do not overlap with it (a leveled
//! compaction, or a move into a leveled run); else they are a new run in front of it (a tiered one).
//! Joining is always right: SSTs that do not overlap have no order between them.
//!
//! Always true, or the edit is refused: every input is there; entries are conserved (outputs =
//! inputs − dropped); outputs lie within the inputs; older data never comes to lie in front of newer.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::{
    chaos::{Bug, bug},
    codec::sum::Sum,
    error::{Error, ErrorKind, Result},
    manifest::{Root, Run, codec},
    sst::SstMeta,
    store::{Name, ObjectId},
};

/// What a compaction takes out and puts in.
#[derive(Debug)]
pub(crate) struct Replacement<'a> {
    pub(crate) inputs: &'a [ObjectId],
    pub(crate) outputs: &'a [SstMeta],
    pub(crate) level: u32,
    pub(crate) dropped: &'a Sum,
}

/// Applies it. `root` is complete; on an error it is left in pieces.
pub(crate) fn replace(root: &mut Root, with: &Replacement<'_>) -> Result<()> {
    let taken = take_inputs(root, with.inputs)?;
    check_outputs(with.outputs, &taken)?;
    check_balance(root, with, &taken)?;
    if let Some(twice) = root.named_twice(with.outputs) {
        return Err(refused(format!("{} is in the version already", codec::sst_name(twice))));
    }

    // The place is that of the newest input run at the level, else the front of the level.
    let at_level = taken.iter().map(|(run, _)| *run).find(|run| root.runs[*run].level == with.level);
    let front = root.runs.partition_point(|run| run.level < with.level);
    let place = at_level.unwrap_or(front);
    check_order_of_data(root, &taken, place)?;

    if !with.outputs.is_empty() {
        let joined = root
            .runs
            .get(place)
            .filter(|run| run.level == with.level && with.level > 0 && !run.is_hole())
            .and_then(|run| {
                let mut ssts = [&run.ssts[..], with.outputs].concat();
                ssts.sort_by(|a, b| a.first_key.cmp(&b.first_key));
                let run = Run { ssts, parts: Vec::new(), ..*run };
                codec::check_order(&run).is_ok().then_some(run)
            });
        match joined {
            Some(run) => root.runs[place] = run,
            None => {
                let run = Run {
                    id: root.next_run,
                    level: with.level,
                    ssts: with.outputs.to_vec(),
                    parts: Vec::new(),
                };
                root.next_run += 1;
                root.runs.insert(place, run);
            }
        }
    }
    root.runs.retain(|run| !run.ssts.is_empty());
    Ok(())
}

/// An input, and the place of the run it was in.
type Taken = (usize, SstMeta);

/// Takes the inputs out of their runs, newest run first; emptied runs stay, so that places stay.
fn take_inputs(root: &mut Root, inputs: &[ObjectId]) -> Result<Vec<Taken>> {
    let mut wanted: HashMap<Bytes, ObjectId> = inputs.iter().map(|id| (id.to_bytes().into(), *id)).collect();
    if wanted.len() != inputs.len() || inputs.is_empty() {
        return Err(Error::invalid("a compaction needs inputs, each named once"));
    }
    let mut taken = Vec::with_capacity(inputs.len());
    // slatedb #1871: the list had changed since it was counted.
    if bug(Bug::InputsByPosition) {
        for (place, run) in root.runs.iter_mut().enumerate().rev() {
            let from = run.ssts.len().saturating_sub(inputs.len() - taken.len());
            taken.extend(run.ssts.drain(from..).map(|sst| (place, sst)));
        }
        return Ok(taken);
    }
    for (place, run) in root.runs.iter_mut().enumerate() {
        run.ssts.retain(|sst| {
            // A hole is no input: what was lost cannot be merged, and must not go unseen.
            let is_input = !sst.is_hole() && wanted.remove(&sst.id).is_some();
            if is_input {
                taken.push((place, sst.clone()));
            }
            !is_input
        });
    }
    match wanted.into_values().min() {
        None => Ok(taken),
        Some(missing) => {
            let what = format!("{} is not in version {} any more", Name::Sst(missing).path(), root.id);
            Err(Error::new(ErrorKind::Conflict, what).hint("plan the compaction again on the newest version"))
        }
    }
}

/// I12: entries are neither lost nor made.
fn check_balance(root: &mut Root, with: &Replacement<'_>, taken: &[Taken]) -> Result<()> {
    let sum_of = |ssts: &mut dyn Iterator<Item = &SstMeta>| {
        let mut sum = Sum::default();
        ssts.for_each(|sst| sum.add(&Sum::from_bytes(&sst.sum).unwrap_or_default()));
        sum
    };
    let mut kept = sum_of(&mut taken.iter().map(|(_, sst)| sst));
    kept.remove(with.dropped);
    let made = sum_of(&mut with.outputs.iter());
    if made != kept {
        let what = format!(
            "the compaction of {} SSTs into {} does not balance: its outputs are not its inputs less what it dropped",
            with.inputs.len(),
            with.outputs.len()
        );
        return Err(Error::new(ErrorKind::Corruption, what)
            .hint("nothing was changed; the inputs or the outputs are damaged, run a verification"));
    }
    let mut sum = Sum::from_bytes(&root.sum).unwrap_or_default();
    sum.remove(with.dropped);
    root.sum = Bytes::copy_from_slice(&sum.to_bytes());
    Ok(())
}

/// Outputs are well formed, ascend, and begin and end within inputs.
fn check_outputs(outputs: &[SstMeta], taken: &[Taken]) -> Result<()> {
    let run = Run { ssts: outputs.to_vec(), ..Run::default() };
    outputs.iter().try_for_each(codec::check_sst).and_then(|()| codec::check_order(&run)).map_err(refused)?;
    let within =
        |key: &Bytes| taken.iter().any(|(_, input)| input.first_key <= *key && *key <= input.last_key);
    let max_seq = taken.iter().map(|(_, input)| input.max_seq).max();
    let min_seq = taken.iter().map(|(_, input)| input.min_seq).min();
    for output in outputs {
        let numbers_fit = min_seq <= Some(output.min_seq) && Some(output.max_seq) <= max_seq;
        if !numbers_fit || !within(&output.first_key) || !within(&output.last_key) {
            return Err(refused(format!(
                "{} holds keys or numbers that no input holds",
                codec::sst_name(output)
            )));
        }
    }
    Ok(())
}

/// I11: an SST that stays must not come to lie behind an input that was older than it, nor in front of one that was newer.
fn check_order_of_data(root: &Root, taken: &[Taken], place: usize) -> Result<()> {
    let places: HashSet<usize> = taken.iter().map(|(run, _)| *run).collect();
    let (Some(newest), Some(oldest)) = (places.iter().min(), places.iter().max()) else { return Ok(()) };
    let (low, high) = (*newest.min(&place), *oldest.max(&place));
    for (at, run) in root.runs.iter().enumerate().take(high + 1).skip(low) {
        // Inputs that change sides with this run: newer ones that will lie behind it, older ones in front.
        let crossing = taken.iter().filter(|(from, _)| if at < place { *from < at } else { *from > at });
        for (_, input) in crossing {
            if let Some(stays) = overlapping(run, input) {
                let (stays, input) = (codec::sst_name(stays), codec::sst_name(input));
                return Err(refused(format!(
                    "{stays} would change order with {input}, whose keys it overlaps"
                )));
            }
        }
    }
    Ok(())
}

/// The first SST of the run that overlaps `input`.
fn overlapping<'a>(run: &'a Run, input: &SstMeta) -> Option<&'a SstMeta> {
    let at = run.ssts.partition_point(|sst| sst.last_key < input.first_key);
    run.ssts.get(at).filter(|sst| sst.first_key <= input.last_key)
}

fn refused(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("a compaction cannot be committed: {what}"))
}
