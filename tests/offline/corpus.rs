//! The image specification's corners: each legal oddity is imported as it is, and what is no image that could run is
//! refused with the reason.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::host::Host;
use crate::pieces::{CONFIG, HERE, LAYER, MANIFEST, Pieces, digest, gzip, tar};
use crate::process;
use crate::registry::registry;

const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// An architecture that is not this machine's.
const ELSEWHERE: &str = "s390x";

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 0).unwrap()
}

fn of(mut descriptor: Value, architecture: &str, variant: Option<&str>) -> Value {
    descriptor["platform"] = json!({ "architecture": architecture, "os": "linux" });
    if let Some(variant) = variant {
        descriptor["platform"]["variant"] = variant.into();
    }
    descriptor
}

#[test]
fn an_index_has_an_image_for_each_platform() {
    let corpus = Pieces::new();
    let (v6, v7) = (corpus.image("arm", "v6"), corpus.image("arm", "v7"));
    let list = corpus.index(&[
        of(corpus.image(ELSEWHERE, "elsewhere"), ELSEWHERE, None),
        of(v6, "arm", Some("v6")),
        of(v7, "arm", Some("v7")),
        of(corpus.image(HERE, "here"), HERE, None),
    ]);
    let index_digest = list["digest"].clone();
    let list = corpus.tag(list, "list");
    assert_eq!(corpus.which("here", &[], &list), "here");
    let other = ["--arch", ELSEWHERE];
    assert_eq!(corpus.which("elsewhere", &other, &list), "elsewhere");
    let v7 = ["--arch=arm", "--variant=v7", "--os=linux"];
    assert_eq!(corpus.which("v7", &v7, &list), "v7");
    let v6 = ["--arch=arm", "--variant=v6"];
    assert_eq!(corpus.which("v6", &v6, &list), "v6");
    let shown: Value = serde_json::from_str(&corpus.host.ok(&["show", "--json", "v7"])).unwrap();
    assert_eq!(
        (&shown["platform"], &shown["index_digest"]),
        (&json!("linux/arm/v7"), &index_digest)
    );
    // What is damaged comes back for the platform it was installed for.
    let which = corpus.rootfs("elsewhere").join("which");
    fs::write(&which, "damaged!!").unwrap();
    corpus.host.ok(&["repair", "elsewhere"]);
    assert_eq!(fs::read_to_string(&which).unwrap(), "elsewhere");
    // The store has one for each.
    for options in [&[][..], &other, &v7] {
        corpus.host.ok(&[&["pull"], options, &[&list]].concat());
    }
    corpus.host.ok(&["uninstall", "v7"]);
    let kept = [&["--pull=never"], &v7[..]].concat();
    assert_eq!(corpus.which("v7", &kept, &list), "v7");
    let none = corpus
        .host
        .fails(&["install", "--pull=never", "--arch=ppc64le", &list]);
    assert!(none.contains("is not in the store"), "{none}");
    let none = corpus.host.fails(&["pull", "--arch=ppc64le", &list]);
    assert_eq!(
        none,
        format!(
            "error: opening `{list}`: no image found in the index for linux/ppc64le; \
             it has linux/{HERE}, linux/arm/v6, linux/arm/v7, linux/{ELSEWHERE}\n\
             hint: ask for another tag; for the root of another machine give `--root DIR` and `--arch ARCH`"
        )
    );
}

/// What Docker pushes: a manifest of its second schema, and a list of them.
#[test]
fn dockers_own_manifests_in_a_registry() {
    let corpus = Pieces::new();
    let alone = corpus.tag(corpus.image(HERE, "alone"), "alone");
    let list = corpus.tag(
        corpus.index(&[
            of(corpus.image(ELSEWHERE, "elsewhere"), ELSEWHERE, None),
            of(corpus.image(HERE, "here"), HERE, None),
        ]),
        "list",
    );
    let v2s2 = ["--all", "--format=v2s2"];
    let alone = registry().push_with(&alone, "docker/alone:1", &v2s2);
    let list = registry().push_with(&list, "docker/list:1", &v2s2);
    let raw = |reference: &str| -> Value {
        let args = ["inspect", "--raw", "--tls-verify=false", reference];
        serde_json::from_str(&process::tool("skopeo", &args)).unwrap()
    };
    let docker = "application/vnd.docker.distribution.manifest";
    assert_eq!(raw(&alone)["mediaType"], format!("{docker}.v2+json"));
    assert_eq!(raw(&list)["mediaType"], format!("{docker}.list.v2+json"));
    let plain = "--tls-verify=false";
    assert_eq!(corpus.which("alone", &[plain], &alone), "alone");
    assert_eq!(corpus.which("here", &[plain], &list), "here");
    let other = [plain, "--arch", ELSEWHERE];
    assert_eq!(corpus.which("elsewhere", &other, &list), "elsewhere");
    // What the registry calls each: an index, or the manifest itself; and the signs by which that is told.
    for (name, reference, manifests) in [("alone", &alone, 1), ("here", &list, 2)] {
        let shown: Value =
            serde_json::from_str(&corpus.host.ok(&["show", "--json", name])).unwrap();
        let raw = process::tool("skopeo", &["inspect", "--raw", plain, reference]);
        assert_eq!(shown["index_digest"], digest(raw.as_bytes()), "{name}");
        let is_index = shown["index_digest"] != shown["manifest_digest"];
        assert_eq!(is_index, manifests > 1, "{name}");
        let mut skopeo = Command::new("skopeo");
        let run = process::run(skopeo.args(["--debug", "inspect", "--no-tags", plain, reference]));
        let fetched = run.stderr.matches("Content-Type from manifest GET is ");
        assert_eq!(fetched.count(), manifests, "{}", run.stderr);
    }
    let shown = ["images", "show", "--remote", "--json", plain, &list];
    let shown: Value = serde_json::from_str(&corpus.host.ok(&shown)).unwrap();
    assert_eq!(shown["platform"], format!("linux/{HERE}"));
    let both = [format!("linux/{HERE}"), format!("linux/{ELSEWHERE}")];
    let mut both = both.to_vec();
    both.sort();
    assert_eq!(shown["platforms"], json!(both));
    let text = corpus
        .host
        .ok(&["images", "show", "--remote", plain, &list]);
    assert!(
        text.contains(&format!("  index has   {}\n", both.join(" "))),
        "{text}"
    );
    let shown = ["images", "show", "--remote", "--json", plain, &alone];
    let shown: Value = serde_json::from_str(&corpus.host.ok(&shown)).unwrap();
    assert_eq!(shown["platforms"], Value::Null);
}

#[test]
fn an_image_for_another_machine() {
    let corpus = Pieces::new();
    let alone = corpus.tag(corpus.image(ELSEWHERE, "x"), "alone");
    assert_eq!(
        corpus.refused(&alone),
        format!(
            "error: opening `oci:DIR:alone`: the image is for linux/{ELSEWHERE}, not for linux/{HERE}\n\
             hint: take an image for linux/{HERE}; for the root of another machine give `--root DIR --arch {ELSEWHERE}`"
        )
    );
    corpus.which("alone", &["--arch", ELSEWHERE], &alone);
}

#[test]
fn indexes_in_indexes() {
    let corpus = Pieces::new();
    let images = [
        of(corpus.image(ELSEWHERE, "elsewhere"), ELSEWHERE, None),
        of(corpus.image(HERE, "here"), HERE, None),
    ];
    let inner = corpus.index(&images);
    let only_elsewhere = corpus.index(&images[..1]);
    let thrice = corpus.index(&[corpus.index(std::slice::from_ref(&inner))]);
    let second = corpus.index(&[only_elsewhere.clone(), inner.clone()]);
    let said = corpus.index(&[of(inner, HERE, None)]);
    for (name, descriptor) in [("thrice", thrice), ("second", second), ("said", said)] {
        let reference = corpus.tag(descriptor.clone(), name);
        assert_eq!(corpus.which(name, &[], &reference), "here");
        let shown = corpus.host.ok(&["show", "--json", name]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["index_digest"], descriptor["digest"]);
        assert_eq!(shown["manifest_digest"], images[1]["digest"]);
        let again = corpus.host.ok(&["install", "--name", name, &reference]);
        assert!(again.contains("already installed"), "{again}");
    }
    let none = corpus.index(&[corpus.index(&[only_elsewhere])]);
    let none = corpus.refused(&corpus.tag(none, "none"));
    assert!(
        none.starts_with("error: opening `oci:DIR:none`: "),
        "{none}"
    );
}

/// Layers in every form, with what the umpteenth file holds.
#[test]
fn every_form_of_a_layer() {
    let corpus = Pieces::new();
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let (mut layers, mut tars) = (Vec::new(), Vec::new());
    let mut add = |name: &str, kind: &str, pack: &dyn Fn(&[u8]) -> Vec<u8>| {
        let tar = tar(&[(name, name)]);
        let mut layer = corpus.blob(kind, &pack(&tar));
        layer["annotations"] = json!({ "example.unknown": "1",
            "io.github.containers.zstd-chunked.manifest-position": "1:2:3:1" });
        layers.push(layer);
        tars.push(tar);
    };
    add("plain", LAYER, &<[u8]>::to_vec);
    add("gzip", &format!("{LAYER}+gzip"), &gzip);
    add("zstd", &format!("{LAYER}+zstd"), &zstd);
    // As zstd:chunked is: frames, and frames that are to be skipped.
    add("chunked", &format!("{LAYER}+zstd"), &|tar| {
        let (front, back) = tar.split_at(512);
        [&skippable[..], &zstd(front), &zstd(back), &skippable].concat()
    });
    add("members", &format!("{LAYER}+gzip"), &|tar| {
        let (front, back) = tar.split_at(700);
        [gzip(front), gzip(back)].concat()
    });
    add("docker", DOCKER_LAYER, &gzip);
    let refs: Vec<_> = tars.iter().map(Vec::as_slice).collect();
    let manifest = corpus.manifest(&Pieces::config(HERE, &refs), &layers);
    let reference = corpus.tag(corpus.json(MANIFEST, &manifest), "forms");
    corpus.install("forms", &[], &reference);
    for name in ["plain", "gzip", "zstd", "chunked", "members", "docker"] {
        let text = fs::read_to_string(corpus.rootfs("forms").join(name)).unwrap();
        assert_eq!(text, name);
    }
}

/// What the image specification allows and few builders write. Where umoci unpacks it too, it is the same.
#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn oddities_are_imported() {
    let corpus = Pieces::new();
    let one = tar(&[("which", "one"), ("both", "lower")]);
    let two = tar(&[("both", "upper")]);
    let nothing = vec![0; 1024];
    let config = Pieces::config(HERE, &[&one, &two]);
    let ordinary = corpus.manifest_of(&[&one, &two]);
    let with = |change: &dyn Fn(&mut Value, &mut Value)| {
        let (mut manifest, mut config) = (ordinary.clone(), config.clone());
        change(&mut manifest, &mut config);
        manifest["config"] = corpus.json(CONFIG, &config);
        manifest
    };
    let images = [
        ("ordinary", ordinary.clone()),
        ("no-layers", corpus.manifest_of(&[])),
        (
            "empty-layers",
            corpus.manifest_of(&[&nothing, &one, &nothing]),
        ),
        ("twice-the-same", corpus.manifest_of(&[&one, &two, &one])),
        (
            "no-media-type",
            with(&|m, _| drop(m.as_object_mut().unwrap().remove("mediaType"))),
        ),
        (
            "unknown-fields",
            with(&|m, c| {
                m["annotations"] = json!({ "example.unknown": "x", "": "" });
                m["example"] = json!([1, { "x": null }]);
                c["example"] = json!({ "deep": [1] });
                c["config"]["Example"] = json!(1);
            }),
        ),
        (
            "subject",
            with(&|m, _| {
                m["subject"] = json!({ "mediaType": MANIFEST, "size": 7,
                "digest": digest(b"nowhere") });
                m["artifactType"] = json!("application/vnd.example");
            }),
        ),
        (
            "data",
            with(&|m, _| {
                let data = openssl::base64::encode_block(&two).replace('\n', "");
                m["layers"][1]["data"] = data.into();
                m["layers"][1]["urls"] = json!(["https://127.0.0.1:9/never/asked"]);
            }),
        ),
        (
            "history",
            with(&|_, c| {
                c["history"] = json!([{ "created_by": "one" }, { "empty_layer": true },
                { "created_by": "two", "comment": "" }, { "empty_layer": true }]);
            }),
        ),
        (
            "wrong-history",
            with(&|_, c| c["history"] = json!([{ "created_by": "one" }])),
        ),
        ("no-history", with(&|_, c| c["history"] = json!([]))),
        (
            "nulls",
            with(&|_, c| {
                c["history"] = Value::Null;
                for key in ["Env", "Cmd", "Labels", "Volumes", "ExposedPorts"] {
                    c["config"][key] = Value::Null;
                }
            }),
        ),
        (
            "docker-fields",
            with(&|_, c| {
                c["container"] = json!("0123");
                c["docker_version"] = json!("1.13");
                c["created"] = json!("0001-01-01T00:00:00Z");
                c["config"]["Healthcheck"] = json!({ "Test": ["NONE"] });
                c["config"]["OnBuild"] = json!(["RUN x"]);
                c["config"]["ArgsEscaped"] = json!(true);
            }),
        ),
    ];
    for (name, manifest) in images {
        let reference = corpus.tag(corpus.json(MANIFEST, &manifest), name);
        corpus.is_what_umoci_unpacks(name, &reference);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn what_is_no_image_that_runs_is_refused() {
    let corpus = Pieces::new();
    let tar = tar(&[("which", "one")]);
    let layer = corpus.blob(LAYER, &tar);
    let id = layer["digest"].as_str().unwrap().to_owned();
    let config = Pieces::config(HERE, &[&tar]);
    let typed = |kind: &str| {
        let mut layer = layer.clone();
        layer["mediaType"] = kind.into();
        corpus.manifest(&config, &[layer])
    };
    let artifact = |kind: &str| {
        let mut manifest = corpus.manifest(&config, std::slice::from_ref(&layer));
        manifest["config"] = corpus.blob(kind, b"{}");
        manifest
    };
    let sized = |size: usize| {
        let mut layer = layer.clone();
        layer["size"] = size.into();
        corpus.manifest(&config, &[layer])
    };
    let importing = format!("importing `oci:DIR:NAME`: layer {id}: ");
    let foreign = "its files come from elsewhere, and no checksum covers how: use an image without such layers";
    let damaged = "what the image's source holds is damaged: copy or push the image there again";
    let artifacts =
        "give the reference of an image; what a registry keeps beside images cannot be run";
    let opening = "opening `oci:DIR:NAME`: ";
    let mut wrong = Vec::new();
    for (name, manifest, error) in [
        (
            "xz",
            typed(&format!("{LAYER}+xz")),
            format!("{importing}its media type `{LAYER}+xz` is not supported"),
        ),
        (
            "parameter",
            typed(&format!("{LAYER}; charset=x")),
            format!("{importing}its media type `{LAYER}; charset=x` is not supported"),
        ),
        (
            "encrypted",
            typed(&format!("{LAYER}+gzip+encrypted")),
            format!(
                "{importing}it is encrypted (`{LAYER}+gzip+encrypted`)\n\
                 hint: copy the image with `skopeo copy --decryption-key KEY` first"
            ),
        ),
        (
            "foreign",
            typed("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
            format!(
                "{importing}it may not be distributed (`application/vnd.oci.image.layer.nondistributable.v1.tar+gzip`)\n\
                 hint: {foreign}"
            ),
        ),
        (
            "docker-foreign",
            typed("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            format!(
                "{importing}it may not be distributed (`application/vnd.docker.image.rootfs.foreign.diff.tar.gzip`)\n\
                 hint: {foreign}"
            ),
        ),
        (
            "empty-config",
            artifact("application/vnd.oci.empty.v1+json"),
            format!(
                "{opening}it is no image but an artifact (`application/vnd.oci.empty.v1+json`)\nhint: {artifacts}"
            ),
        ),
        (
            "unknown-config",
            artifact("application/vnd.example+json"),
            format!(
                "{opening}it is no image but an artifact (`application/vnd.example+json`)\nhint: {artifacts}"
            ),
        ),
        (
            "too-short",
            sized(tar.len() + 1),
            format!("{importing}expected 2049 bytes in blob, got 2048\nhint: {damaged}"),
        ),
        (
            "too-long",
            sized(tar.len() - 1),
            format!("{importing}expected 2047 bytes in blob, got 2048\nhint: {damaged}"),
        ),
        (
            "more-layers",
            corpus.manifest(&config, &[layer.clone(), layer.clone()]),
            format!("{opening}the manifest lists 2 layers, the config 1 diff_ids"),
        ),
    ] {
        let reference = corpus.tag(corpus.json(MANIFEST, &manifest), name);
        let said = corpus.refused(&reference);
        let said = said.replace(&format!("DIR:{name}"), "DIR:NAME");
        wrong.extend((said != format!("error: {error}")).then(|| format!("{name}: {said}")));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// A directory with a manifest of Docker's first schema, which names its layers by nothing that can be verified.
#[test]
fn the_first_schema_is_refused() {
    let host = Host::new();
    let dir = host.beside("schema-1");
    fs::create_dir_all(&dir).unwrap();
    let tar = gzip(&tar(&[("which", "one")]));
    let id = digest(&tar);
    fs::write(dir.join(&id[7..]), &tar).unwrap();
    fs::write(dir.join("version"), "Directory Transport Version: 1.1\n").unwrap();
    let history = json!({ "id": "0".repeat(64), "architecture": HERE, "os": "linux" }).to_string();
    let manifest = json!({ "schemaVersion": 1, "name": "x", "tag": "1", "architecture": HERE,
        "fsLayers": [{ "blobSum": id }], "history": [{ "v1Compatibility": history }] });
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    let reference = format!("dir:{}", dir.display());
    host.refused(
        &["pull", &reference],
        &format!(
            "error: opening `{reference}`: unsupported legacy manifest MIME type: \
             application/vnd.docker.distribution.manifest.v1+json\n\
             hint: its format is Docker's first: push it anew with a builder of today, or `skopeo copy --format v2s2`"
        ),
    );
}
