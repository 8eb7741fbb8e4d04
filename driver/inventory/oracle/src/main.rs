//! Compares the inventory's allocator with the scheduler's own code on random cluster states.
//!
//! | module | what is there |
//! |---|---|
//! | `classes` | feature classes: which states are made for each |
//! | `cluster`, `claims` | random clusters; random claims |
//! | `judge` | the scheduler's code, as a program that is asked line by line |
//! | `shrink` | the smallest state that still shows a difference |
mod claims;
mod classes;
mod cluster;
mod judge;
mod shrink;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use classes::Class;
use judge::Judge;
use sluice_inventory_oracle::answer::Answer;
use sluice_inventory_oracle::state::{Known, State};

/// Compares the inventory with the scheduler's own allocator on random cluster states.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The program with the scheduler's allocator: see driver/inventory/oracle/run.
    #[arg(long)]
    judge: PathBuf,
    /// States of each feature class.
    #[arg(long, default_value_t = 500)]
    states: u32,
    /// Only this feature class.
    #[arg(long)]
    class: Option<String>,
    /// The first state's seed; each further state's is one more.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the smallest state that shows each difference.
    #[arg(long)]
    differences: Option<PathBuf>,
}

/// Counts of the states of one class.
#[derive(Debug, Default)]
struct Tally {
    states: u32,
    fit: u32,
    gave_up: u32,
    undecided: u32,
    different: u32,
    /// States that ask for just one device of a class: the autoscaler counts how many more of these fit.
    counted: u32,
    count_low: u32,
    count_high: u32,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let mut judge = Judge::start(&args.judge)?;
    let mut failed = false;
    println!(
        "{:<20} {:>7} {:>6} {:>9} {:>10} {:>10} {:>7} {:>7} {:>8}",
        "class", "states", "fit", "different", "undecided", "Go gave up", "counted", "too low", "too high"
    );
    for class in Class::ALL {
        if args.class.as_deref().is_some_and(|only| only != class.name()) {
            continue;
        }
        let mut tally = Tally::default();
        for n in 0..args.states {
            let seed = args.seed + u64::from(n);
            let state = class.state(&mut SmallRng::seed_from_u64(seed));
            compare(&args, &mut judge, class, seed, &state, &mut tally)?;
        }
        let percent = |part: u32| f64::from(part) * 100.0 / f64::from(tally.states.max(1));
        println!(
            "{:<20} {:>7} {:>4.0} % {:>9} {:>8.1} % {:>10} {:>7} {:>7} {:>8}",
            class.name(),
            tally.states,
            percent(tally.fit),
            tally.different,
            percent(tally.undecided),
            tally.gave_up,
            tally.counted,
            tally.count_low,
            tally.count_high
        );
        failed |= tally.count_high > 0 || (class.counts_are_exact() && tally.count_low > 0);
        failed |= tally.different > 0 || percent(tally.undecided) > 1.0;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Asks both sides about a state and counts their answers. Writes the smallest state that shows a difference.
fn compare(
    args: &Args,
    judge: &mut Judge,
    class: Class,
    seed: u64,
    state: &State,
    tally: &mut Tally,
) -> Result<()> {
    let theirs = judge.ask(state)?;
    if let Some(trouble) = theirs.unreadable {
        bail!("{} {seed}: the state is not valid: {trouble}", class.name());
    }
    tally.states += 1;
    if theirs.gave_up {
        tally.gave_up += 1;
        return Ok(());
    }
    let ours = Answer::of(state);
    if ours.gave_up {
        tally.undecided += 1;
        return Ok(());
    }
    if let Some(count) = Answer::counted(state) {
        // Where nodes share a pool, the order in which they are filled decides, which the rest of the scheduler
        // chooses.
        let most = if count > theirs.more { most_in_any_order(judge, state)? } else { theirs.more };
        tally.counted += 1;
        tally.count_low += u32::from(count < theirs.more);
        tally.count_high += u32::from(count > most);
        if count > most || (class.counts_are_exact() && count != theirs.more) {
            println!(
                "{} {seed}: the scheduler places {} more, the autoscaler counts {count}",
                class.name(),
                theirs.more
            );
        }
    }
    tally.fit += u32::from(theirs.nodes.values().any(|on_node| on_node.fits));
    let Some(difference) = ours.differs_from(&theirs) else { return Ok(()) };
    tally.different += 1;
    println!("{} {seed}: {difference}", class.name());
    if let Some(folder) = &args.differences {
        let smallest = shrink::shrink(state, |state| {
            let theirs = judge.ask(state)?;
            let ours = Answer::of(state);
            Ok(theirs.unreadable.is_none()
                && !theirs.gave_up
                && !ours.gave_up
                && ours.differs_from(&theirs).is_some())
        })?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let file = folder.join(format!("{}-{seed}.json", class.name()));
        let (answer, ours) = (judge.ask(&smallest)?, Answer::of(&smallest));
        println!("  smallest: {}: {}", file.display(), ours.differs_from(&answer).unwrap_or_default());
        let known = serde_json::to_string_pretty(&Known { state: smallest, answer })?;
        fs::write(&file, known).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Returns how many more pods the scheduler places at most, in any order of the nodes.
fn most_in_any_order(judge: &mut Judge, state: &State) -> Result<u32> {
    let mut most = 0;
    let mut order: Vec<usize> = (0..state.nodes.len()).collect();
    loop {
        let nodes = order.iter().map(|&node| state.nodes[node].clone()).collect();
        most = most.max(judge.ask(&State { nodes, ..state.clone() })?.more);
        // The next order, as in a dictionary.
        let Some(from) = (1..order.len()).rev().find(|&at| order[at - 1] < order[at]) else {
            return Ok(most);
        };
        let Some(with) = (from..order.len()).rev().find(|&at| order[from - 1] < order[at]) else {
            return Ok(most);
        };
        order.swap(from - 1, with);
        order[from..].reverse();
    }
}
