//! Every fault of the rule language, met by a whole database: right answers or typed errors.
//!
//! The same attacks go through [`FaultyStore`] in memory and, if there is a `minio` binary and the feature
//! `testing-proxy` is on, through the fault proxy over HTTP.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use esker::{
    Builder, Compaction, Db, ErrorKind,
    clock::SystemClock,
    stats::Cause,
    store::{Name, ObjectId, Role},
    testing::{Fault, FaultyStore, Operation, Rule, parse_rules},
};

/// Each with the kinds of errors that the application may see.
const ATTACKS: [(&str, &[ErrorKind]); 31] = {
    use ErrorKind::{Closed, Corruption, Invalid, OutcomeUnknown, Unavailable};
    [
        ("any every=7 -> fail_before", &[]),
        ("put every=3 -> drop_reply", &[]),
        ("any every=5 -> drop_reply", &[]),
        ("put wal/ every=3 -> late=30ms", &[]),
        ("put every=4 -> late=30ms", &[]),
        ("any every=3 -> delay=5ms", &[]),
        ("any every=3 -> duplicate", &[]),
        ("put every=3 -> false_conflict", &[]),
        ("put every=4 -> status=409", &[]),
        ("put every=4 -> status=412", &[]),
        ("any every=4 -> status=503", &[]),
        ("any every=5 -> status=500", &[]),
        ("any every=6 -> status=429", &[]),
        ("any nth=11 -> refuse", &[Invalid, Closed]),
        ("any nth=12 -> status=400", &[Invalid, Closed]),
        ("get every=3 -> truncate=10", &[Corruption]),
        ("get every=3 -> cut=10", &[]),
        ("get every=3 -> reset=5", &[]),
        ("put every=3 -> reset=5", &[]),
        ("put every=3 -> reset=100000000", &[]),
        ("get sst/ every=3 -> flip=37", &[Corruption]),
        ("get sst/ every=3 -> shift=3", &[Corruption]),
        ("get sst/ every=3 -> swap", &[Corruption]),
        ("get every=3 -> flip=37", &[Corruption, Closed]),
        ("list every=2 -> stale_list=1", &[Corruption]),
        ("list every=2 -> truncate=1", &[Corruption]),
        ("get sst/ every=3 -> stale_404=5s", &[Corruption]),
        ("put wal/ nth=4 -> hang", &[Unavailable, OutcomeUnknown]),
        ("put wal/ nth=4 -> hang_reply", &[Unavailable, OutcomeUnknown]),
        ("any -> latency=pareto(500us,1.5)", &[]),
        ("delete every=2 -> error_body", &[]),
    ]
};

const KEYS: u64 = 9;

/// What each key may hold, as far as the application knows.
#[derive(Default)]
struct Known(BTreeMap<u64, Vec<Option<String>>>);

impl Known {
    fn wrote(&mut self, key: u64, value: &str, outcome: &esker::Result<esker::Token>) {
        let values = self.0.entry(key).or_insert_with(|| vec![None]);
        match outcome {
            Ok(_) => *values = vec![Some(value.to_owned())],
            // Fenced: not applied. Anything else may have been.
            Err(error) if error.kind() == ErrorKind::Fenced => {}
            Err(_) => values.push(Some(value.to_owned())),
        }
    }

    /// That `found` is one of the values, and from now on the only one.
    fn saw(&mut self, key: u64, found: Option<&[u8]>, place: &str) -> Result<(), String> {
        let found = found.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let values = self.0.entry(key).or_insert_with(|| vec![None]);
        if !values.contains(&found) {
            return Err(format!("{place}: key {key} is {found:?}, possible are {values:?}"));
        }
        *values = vec![found];
        Ok(())
    }
}

fn name(key: u64) -> String {
    format!("key-{key:03}")
}

/// An application under attack: it writes, flushes, compacts and reads between `begin` and `end` of the
/// faults, and is looked at afterwards. Says what was wrong; errors must be of the `allowed` kinds.
async fn application(
    builder: impl Fn() -> Builder,
    begin: impl Fn(),
    end: impl Fn(),
    allowed: &[ErrorKind],
) -> Result<(), String> {
    let builder = || {
        builder()
            .deadline(Duration::from_secs(3))
            .memtable_bytes(64 << 10)
            .cache_bytes(64 << 10)
            .retention(Duration::ZERO)
            .compaction(Compaction::Off)
    };
    let sound = |error: esker::Error| format!("on a sound store: {error}");
    let met = |error: Option<esker::Error>| match error {
        Some(error) if !allowed.contains(&error.kind()) => {
            Err(format!("an error not of the kinds allowed: {error}"))
        }
        _ => Ok(()),
    };
    let db = builder().open().await.map_err(sound)?;
    let mut known = Known::default();
    begin();
    for round in 0..3 {
        for key in 0..KEYS {
            let value = format!("{round} {}", format!("{key};").repeat(40));
            let outcome = db.put(name(key), &value).await;
            known.wrote(key, &value, &outcome);
            met(outcome.err())?;
        }
        met(db.flush().await.err())?;
        if round % 2 == 1 {
            met(db.compact().await.err())?;
        }
        for key in (0..KEYS).step_by(3) {
            match db.get(name(key)).await {
                Ok(found) => known.saw(key, found.as_deref(), "a get under attack")?,
                Err(error) => met(Some(error))?,
            }
        }
        let mut scan = db.scan::<&str>(..);
        loop {
            match scan.next().await {
                Ok(Some(row)) => {
                    let key = String::from_utf8_lossy(&row.key)[4..].parse().expect("a key of ours");
                    known.saw(key, Some(&row.value), "a scan under attack")?;
                }
                Ok(None) => break,
                Err(error) => {
                    met(Some(error))?;
                    break;
                }
            }
        }
    }
    met(db.close().await.err())?;
    end();
    let db = builder().open().await.map_err(sound)?;
    for key in 0..KEYS {
        let found = db.get(name(key)).await.map_err(sound)?;
        known.saw(key, found.as_deref(), "after the attack")?;
    }
    db.compact().await.map_err(sound)?;
    for key in 0..KEYS {
        let found = db.get(name(key)).await.map_err(sound)?;
        known.saw(key, found.as_deref(), "after the attack and a compaction")?;
    }
    db.close().await.map_err(sound)
}

/// Whether an application without deletions never meets it.
fn is_never_met(attack: &str) -> bool {
    attack.starts_with("delete")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_under_each_fault_gives_right_answers_or_typed_errors() {
    let mut failed = Vec::new();
    for (attack, allowed) in ATTACKS {
        let faulty = FaultyStore::memory(SystemClock::shared(), 1);
        let builder = || Db::builder("memory://under-attack").object_store(Arc::new(faulty.clone()));
        let begin = || parse_rules(attack).unwrap().into_iter().for_each(|rule| faulty.add(rule));
        if let Err(wrong) = application(builder, begin, || faulty.clear(), allowed).await {
            failed.push(format!("{attack}: {wrong}"));
        }
        if (faulty.faults() == 0) != is_never_met(attack) {
            failed.push(format!("{attack}: {} faults were met", faulty.faults()));
        }
    }
    assert!(
        failed.is_empty(),
        "{}",
        failed.join(
            "
"
        )
    );
}

fn sst(counter: u64) -> Name {
    Name::Sst(ObjectId { role: Role::Writer, epoch: 1, counter, nonce: 5 })
}

#[tokio::test]
async fn rules_may_be_about_one_node_only() {
    let faulty = FaultyStore::memory(SystemClock::shared(), 1);
    faulty.add(Rule::on(Operation::Put).node("a").meets(Fault::Refuse));
    let body = || vec![bytes::Bytes::from_static(b"x")];
    let (a, b) = (faulty.node("a").store(), faulty.node("b").store());
    assert_eq!(a.put_new(&sst(1), body(), Cause::Flush).await.unwrap_err().kind(), ErrorKind::Invalid);
    b.put_new(&sst(1), body(), Cause::Flush).await.unwrap();
    assert_eq!(faulty.met(), BTreeMap::from([("refuse", 1)]));
}

#[cfg(feature = "testing-proxy")]
#[expect(clippy::print_stderr, reason = "it says why nothing was tested")]
mod proxy {
    use esker::{
        clock::SharedClock,
        store::{Folder, ObjectStore, Sequence, Slot, Store},
        testing::{FaultProxy, Minio},
    };
    use futures::future;
    use object_store::{aws::AmazonS3Builder, prefix::PrefixStore};

    use super::*;

    async fn server() -> Option<(Minio, SharedClock)> {
        let clock = SystemClock::shared();
        let server = Minio::start(&clock).await.unwrap();
        if server.is_none() {
            eprintln!("skipped: no minio binary");
        }
        Some((server?, clock))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_database_behind_the_proxy_gives_right_answers_or_typed_errors() {
        let Some((server, clock)) = server().await else { return };
        let (server, clock) = (&server, &clock);
        let runs = ATTACKS.into_iter().enumerate().map(async |(number, (attack, allowed))| {
            let proxy = FaultProxy::start(&server.endpoint(), Arc::clone(clock), 1).await.unwrap();
            let url = proxy.url(&server.url(&format!("bucket/attack-{number}"))).unwrap();
            let begin = || parse_rules(attack).unwrap().into_iter().for_each(|rule| proxy.add(rule));
            let outcome = application(|| Db::builder(&url), begin, || proxy.clear(), allowed).await;
            let mut failed: Vec<String> = outcome.err().into_iter().collect();
            if (proxy.faults() == 0) != is_never_met(attack) {
                failed.push(format!("{} faults were met", proxy.faults()));
            }
            (attack, failed, proxy.met())
        });
        let (mut faults, mut failed) = (BTreeMap::new(), Vec::new());
        for (attack, wrong, met) in future::join_all(runs).await {
            failed.extend(wrong.into_iter().map(|wrong| format!("{attack}: {wrong}")));
            for (fault, times) in met {
                *faults.entry(fault).or_insert(0) += times;
            }
        }
        println!("met through the proxy: {faults:?}");
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn untouched_bodies_of_every_size_go_through() {
        let Some((server, clock)) = server().await else { return };
        let proxy = FaultProxy::start(&server.endpoint(), Arc::clone(&clock), 1).await.unwrap();
        let store = Store::open(&proxy.url(&server.url("bucket/bodies")).unwrap(), clock).unwrap();
        for (counter, bytes) in [0, 1, 5_000, 3 << 20].into_iter().enumerate() {
            let body: Vec<u8> = (0..bytes).map(|n: u32| (n % 251) as u8).collect();
            let name = sst(counter as u64);
            store.put_new(&name, vec![body.clone().into()], Cause::Flush).await.unwrap();
            let read = store.get(&name, Cause::Read).await.unwrap().unwrap();
            assert!(read == body, "{bytes} bytes came back otherwise");
        }
        let listed = store.list(Folder::Sst, None, Cause::Gc).await.unwrap();
        assert_eq!(listed.len(), 4);
        store.delete(&[sst(0), sst(1)], Cause::Gc).await.unwrap();
        assert_eq!(store.list(Folder::Sst, None, Cause::Gc).await.unwrap().len(), 2);
        assert_eq!(proxy.faults(), 0);
        assert!(proxy.requests() > 8);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_multipart_upload_survives_what_its_steps_meet() {
        let Some((server, clock)) = server().await else { return };
        let body: Vec<u8> = (0..70 << 20).map(|n: u32| (n % 253) as u8).collect();
        let body = bytes::Bytes::from(body);
        for (number, attack) in [
            "begin nth=1 -> status=503",
            "part nth=2 -> drop_reply\npart nth=4 -> reset=1000\npart nth=5 -> duplicate",
            "complete nth=1 -> status=500",
            "complete nth=1 -> error_body",
            "complete nth=1 -> drop_reply",
            "complete nth=1 -> duplicate",
        ]
        .into_iter()
        .enumerate()
        {
            let proxy = FaultProxy::start(&server.endpoint(), Arc::clone(&clock), 1).await.unwrap();
            let url = proxy.url(&server.url("bucket/multipart")).unwrap();
            let store = Store::open(&url, Arc::clone(&clock)).unwrap();
            parse_rules(attack).unwrap().into_iter().for_each(|rule| proxy.add(rule));
            let name = sst(number as u64);
            store
                .put_new(&name, vec![body.clone()], Cause::Flush)
                .await
                .unwrap_or_else(|e| panic!("{attack}: {e}"));
            let read = store.get(&name, Cause::Read).await.unwrap().unwrap();
            assert!(read == body, "{attack}: other bytes came back");
            assert!(proxy.faults() > 0, "{attack} was not met");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_lost_reply_of_an_own_create_is_no_defeat_even_for_a_client_that_retries_inside() {
        let Some((server, clock)) = server().await else { return };
        let proxy = FaultProxy::start(&server.endpoint(), Arc::clone(&clock), 1).await.unwrap();
        for (number, attack) in
            ["put manifest/ nth=1 -> drop_reply", "put manifest/ nth=1 -> duplicate"].into_iter().enumerate()
        {
            proxy.clear();
            proxy.add(attack.parse().unwrap());
            let url = proxy.url(&server.url(&format!("bucket/own-create-{number}"))).unwrap();
            let ours = Store::open(&url, Arc::clone(&clock)).unwrap();
            let retrying = Arc::new(retrying_client(&proxy, &url, &format!("retries-{number}")));
            let theirs = Store::from_object_store(retrying, "s3://that-retries", Arc::clone(&clock));
            for store in [ours, theirs] {
                let sequence = Sequence::new(store, Folder::Manifest);
                let body = |text: &'static str| vec![bytes::Bytes::from_static(text.as_bytes())];
                let token = "a magic.a token of sixteenand the rest";
                let first = sequence.create(1, body(token), Cause::Manifest, None).await.unwrap();
                assert_eq!(first, Slot::Ours, "{attack}");
                let other = body("a magic.another token 16and the rest.");
                let second = sequence.create(1, other, Cause::Manifest, None).await.unwrap();
                assert_eq!(second, Slot::Theirs(token.into()), "{attack}");
                proxy.clear();
                proxy.add(attack.parse().unwrap());
            }
        }
        assert_eq!(proxy.faults(), 4);
    }

    /// A client of `object_store` as it comes, which repeats conditional PUTs behind the back of its caller.
    fn retrying_client(proxy: &FaultProxy, url: &str, prefix: &str) -> impl ObjectStore + use<> {
        let parameter = |name: &str| {
            let (_, rest) = url.split_once(&format!("{name}=")).unwrap();
            rest.split('&').next().unwrap().to_owned()
        };
        let client = AmazonS3Builder::new()
            .with_endpoint(proxy.endpoint())
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name("bucket")
            .with_access_key_id(parameter("access_key_id"))
            .with_secret_access_key(parameter("secret_access_key"))
            .build()
            .unwrap();
        PrefixStore::new(client, prefix)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_put_that_was_withheld_or_late_lands_after_its_sender_gave_up() {
        let Some((server, clock)) = server().await else { return };
        let proxy = FaultProxy::start(&server.endpoint(), Arc::clone(&clock), 1).await.unwrap();
        let url = proxy.url(&server.url("bucket/late")).unwrap();
        let through =
            Store::open(&url, Arc::clone(&clock)).unwrap().with_deadline(Duration::from_millis(300));
        let direct = Store::open(&server.url("bucket/late"), Arc::clone(&clock)).unwrap();
        proxy.add("put sst/ -> withhold".parse().unwrap());
        let body = || vec![bytes::Bytes::from_static(b"late")];
        assert!(through.put_new(&sst(1), body(), Cause::Flush).await.is_err());
        assert_eq!(direct.get(&sst(1), Cause::Read).await.unwrap(), None);
        assert!(proxy.release_withheld().await >= 1);
        assert_eq!(direct.get(&sst(1), Cause::Read).await.unwrap().unwrap(), "late");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_node_of_the_proxy_may_fail_by_itself() {
        let Some((server, clock)) = server().await else { return };
        let proxy = FaultProxy::start(&server.endpoint(), Arc::clone(&clock), 1).await.unwrap();
        proxy.add("any node=reader -> status=403".parse().unwrap());
        let url = server.url("bucket/nodes");
        let db = Db::open(proxy.node_url("writer", &url).await.unwrap()).await.unwrap();
        db.put("k", "v").await.unwrap();
        let reader_url = proxy.node_url("reader", &url).await.unwrap();
        assert_eq!(reader_url, proxy.node_url("reader", &url).await.unwrap());
        let refused = esker::Reader::open(&reader_url).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        db.close().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_is_killed_and_started_again_keeps_its_data_and_its_clients() {
        let Some((mut server, clock)) = server().await else { return };
        let proxy = FaultProxy::start(&server.endpoint(), Arc::clone(&clock), 1).await.unwrap();
        let db = Db::open(proxy.url(&server.url("bucket/killed")).unwrap()).await.unwrap();
        db.put("before", "1").await.unwrap();
        server.kill().unwrap();
        let meanwhile = db.put("meanwhile", "2").accepted().await.unwrap();
        server.restart(&clock).await.unwrap();
        meanwhile.durable().await.unwrap();
        db.close().await.unwrap();
        let db = Db::open(server.url("bucket/killed")).await.unwrap();
        for (key, value) in [("before", "1"), ("meanwhile", "2")] {
            assert_eq!(db.get(key).await.unwrap().as_deref(), Some(value.as_bytes()));
        }
        db.close().await.unwrap();
    }
}
