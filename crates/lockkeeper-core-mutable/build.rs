//! Compiles the seeded bugs in. A `cfg` of this package and no feature, so that nothing can switch them on elsewhere.

fn main() {
    println!("cargo::rustc-cfg=mutations");
}
