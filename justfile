# Everyday commands; `just` lists them. Without just, run the line below a name.

_default:
    @just --list

# Compile everything without running it
check:
    cargo check --all-targets

# Format the code
fmt:
    cargo fmt

# What reviewers see first: formatting, lints, documentation
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# All tests, or those whose path contains NAME
test *NAME:
    cargo test {{NAME}}

# The committed digests: fails when a change moves the bits of results
bits:
    cargo test --test golden_digests

# Everything that continuous integration runs
ci:
    .ci/run

# Benchmarks, or those of one file: just bench --bench kernels
bench *ARGS:
    cargo bench {{ARGS}}

# Kernels and digests on AArch64, under emulation
aarch64:
    tests/aarch64

# Unsafe code under Miri or the sanitizers (nightly toolchain)
sanitizers:
    tests/sanitizers

# Licenses, sources, versions and advisories of dependencies (cargo install cargo-deny)
audit:
    cargo deny check

# As `audit`, without the advisories, which need the RustSec database from GitHub
audit-offline:
    cargo deny check licenses bans sources

# The documentation in a browser
doc:
    cargo doc --no-deps --open

# The program for packages: every dependency optimized
dist:
    cargo build --profile dist --locked
