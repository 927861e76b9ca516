"""Holds an SBOM against the binary, Cargo.lock, `cargo tree` and, if told, what cargo compiled.

    sbom.py SBOM BINARY TARGET [DIRECTORY-OF-RLIBS]
"""

import hashlib
import json
import pathlib
import subprocess
import sys


def main():
    sbom, binary, target, *directory = sys.argv[1:]
    bom = json.loads(pathlib.Path(sbom).read_text())
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.5"), bom["bomFormat"]
    program = bom["metadata"]["component"]
    digest = hashlib.sha256(pathlib.Path(binary).read_bytes()).hexdigest()
    assert program["hashes"] == [{"alg": "SHA-256", "content": digest}], "of another binary"
    assert "serialNumber" not in bom, "a random number"

    crates = {}
    for entry in bom["components"]:
        assert entry["licenses"] and entry["version"], entry
        if entry["purl"].startswith("pkg:cargo/"):
            name, version = entry["purl"][len("pkg:cargo/"):].split("@")
            crate = (name, version.replace("%2B", "+"))
            assert crate == (entry["name"], entry["version"]) and crate not in crates, entry
            crates[crate] = entry["hashes"][0]["content"]
    lock = pathlib.Path("Cargo.lock").read_text()
    for (name, version), checksum in crates.items():
        wanted = f'name = "{name}"\nversion = "{version}"\nsource = '
        _, found, rest = lock.partition(wanted)
        assert found and f'checksum = "{checksum}"' in rest.split("\n\n")[0], (name, version)

    # Macros run in the compiler; what only they need is not in the binary.
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "--target", target, "--edges", "normal", "--no-dedupe",
         "--prefix", "depth", "--format", " {p}"],
        check=True, stdout=subprocess.PIPE, text=True).stdout
    linked, macro = set(), None
    for line in tree.splitlines():
        depth, name, version = line.split()[:3]
        if macro is not None and int(depth) > macro:
            continue
        macro = int(depth) if line.endswith("(proc-macro)") else None
        if macro is None and int(depth) > 0:
            linked.add((name, version[1:]))
    assert set(crates) == linked, set(crates) ^ linked
    assert len(crates) > 30, len(crates)

    references = {entry["bom-ref"] for entry in bom["components"]} | {program["bom-ref"]}
    assert references == {entry["ref"] for entry in bom["dependencies"]}
    for entry in bom["dependencies"]:
        assert references >= set(entry.get("dependsOn", [])), entry

    if directory:
        # lib*.rlib is there for each crate and version that was compiled for the target.
        compiled = sorted(file.name[len("lib"):].rsplit("-", 1)[0]
                          for file in pathlib.Path(directory[0]).glob("lib*-*.rlib"))
        # A library may have another name than its package.
        metadata = json.loads(subprocess.run(
            ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target],
            check=True, stdout=subprocess.PIPE, text=True).stdout)
        libraries = {(package["name"], package["version"]): target["name"]
                     for package in metadata["packages"] for target in package["targets"]
                     if "lib" in target["kind"]}
        named = sorted([libraries[crate] for crate in crates] + [program["name"]])
        assert compiled == named, (compiled, named)
        names = {entry["name"] for entry in bom["components"]}
        assert names >= {"rust-std", "musl"}, names
    print(f"   dist: the SBOM has the {len(crates)} crates that are linked, and {digest[:12]}...")


main()
