// swift-tools-version: 6.2
// The dependency lists below are the architecture: a module imports only what stands above it.
import PackageDescription

let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .enableExperimentalFeature("Lifetimes"),
  .treatAllWarnings(as: .error),
]

/// What nearly every test spends its time in. Optimised in debug builds too, where it takes no longer to build and runs
/// five times as fast: that lets tests go through hundreds of thousands of simulated recoveries. Nothing here is
/// checked by `assert`.
let hot: Set = ["Ring", "Coding", "Wire", "Cluster", "ShardStore", "Simulation"]

/// `CAIRN_FUZZ=1` builds what strangers' bytes are read with so that libFuzzer sees which way they go: `scripts/fuzz`.
let isFuzzing = Context.environment["CAIRN_FUZZ"] == "1"
let fuzzed: Set = ["Service", "HTTP", "Messages", "Gateway"]
let fuzzing = ["-O", "-sanitize=fuzzer", "-parse-as-library"]

/// What the compiler is told besides in debug builds.
func debugFlags(_ name: String) -> [String] {
  if isFuzzing && fuzzed.contains(name) { return fuzzing }
  return hot.contains(name) ? ["-O"] : []
}

/// A module of the product and, when it has tests, the folder that mirrors it.
func module(
  _ name: String, _ dependencies: [String], path: String? = nil, tests: [String]? = nil
) -> [Target] {
  let product = Target.target(
    name: name, dependencies: dependencies.map { .byName(name: $0) }, path: path,
    swiftSettings: settings + [.unsafeFlags(debugFlags(name), .when(configuration: .debug))])
  guard let tests else { return [product] }
  return [
    product,
    .testTarget(
      name: "\(name)Tests",
      dependencies: ([name, "TestSupport"] + dependencies + tests).map { .byName(name: $0) },
      path: "Tests/\(name)Tests", swiftSettings: settings),
  ]
}

/// For `cairn sim`: what a failing seed was found in. `make` hands it in. What the manifest said of git is cached
/// until the manifest changes, so without `make` it may be an older commit that is named.
let commit =
  Context.environment["CAIRN_COMMIT"]
  ?? Context.gitInformation.map { "\($0.currentCommit.prefix(12)) or later" } ?? "unknown"

let shims: [Target] = [
  .target(
    name: "CCommit", path: "CShims/CCommit",
    cSettings: [.define("CAIRN_COMMIT", to: "\"\(commit)\"")]),
  .target(name: "CKernel", path: "CShims/CKernel"),
  // Optimised in debug builds too: intrinsics that are not are slower than no intrinsics.
  .target(
    name: "CDigest", path: "CShims/CDigest", cSettings: [.unsafeFlags(["-O2"])]),
  .systemLibrary(name: "CURing", path: "CShims/CURing"),
  .systemLibrary(name: "CISAL", path: "CShims/CISAL"),
  .systemLibrary(name: "CCrypto", path: "CShims/CCrypto"),
  .systemLibrary(name: "CZstd", path: "CShims/CZstd"),
  .systemLibrary(name: "CLZ4", path: "CShims/CLZ4"),
  .systemLibrary(name: "CXZ", path: "CShims/CXZ"),
  .systemLibrary(name: "CRocks", path: "CShims/CRocks"),
  .systemLibrary(name: "CExpat", path: "CShims/CExpat"),
  .systemLibrary(name: "CPKCS11", path: "CShims/CPKCS11"),
  .target(name: "CToml", path: "CShims/CToml"),
]

let fuzzDependencies: [Target.Dependency] = [
  "Ring", "Coding", "Wire", "Service", "HTTP", "Messages", "Gateway",
]

let everything: [Target] =
  shims
  + module("Ring", ["CKernel", "CURing"], tests: [])
  + module("Coding", ["CISAL", "CCrypto", "CDigest", "CZstd", "CLZ4", "CXZ"], tests: [])
  + module("Wire", ["Ring", "Coding", "CCrypto"], tests: ["Simulation"])
  + module("Service", ["Ring", "CToml"], tests: ["Simulation"])
  + module("HTTP", ["Ring", "Wire", "Service"], tests: ["Simulation"])
  + module("Cluster", ["Ring", "Coding", "Wire"], tests: [])
  + module("Messages", ["Ring", "Coding", "Wire", "Cluster"], tests: [])
  + module("ShardStore", ["Ring", "Coding", "Wire", "Cluster"], tests: ["Simulation"])
  + module("Tuning", ["Ring", "Service", "ShardStore"], tests: ["Simulation"])
  + module(
    "Stripes", ["Ring", "Coding", "Wire", "Cluster", "Messages"], tests: ["Simulation"])
  + module(
    "Metadata", ["Ring", "Coding", "Wire", "Cluster", "Messages", "CRocks"],
    tests: ["Simulation"])
  + module(
    "DataPath", ["Ring", "Coding", "Wire", "Service", "Cluster", "Messages", "Stripes"],
    tests: ["Simulation", "ShardStore", "Metadata", "Node", "Coordinator"])
  + module(
    "Node",
    ["Ring", "Coding", "Wire", "Service", "Cluster", "Messages", "ShardStore", "Stripes"],
    tests: ["Simulation"])
  + module(
    "Coordinator",
    [
      "Ring", "Coding", "Wire", "Service", "HTTP", "Cluster", "Messages", "Stripes", "Metadata",
      "CPKCS11",
    ],
    tests: ["Simulation", "ShardStore", "Node"])
  + module(
    "Gateway",
    [
      "Ring", "Coding", "Wire", "Service", "HTTP", "Cluster", "Messages", "Stripes", "DataPath",
      "CExpat",
    ], tests: ["Simulation", "ShardStore", "Metadata", "Node", "Coordinator"])
  + module("Simulation", ["Ring"], tests: [])
  + module(
    "Swarm",
    [
      "Ring", "Coding", "Wire", "Service", "Cluster", "Messages", "ShardStore", "Stripes",
      "Metadata", "DataPath", "Node", "Coordinator", "Simulation",
    ], tests: [])
  + module(
    "Bench",
    [
      "Ring", "Coding", "Wire", "Service", "Cluster", "Messages", "ShardStore", "Stripes",
      "Metadata", "DataPath", "Node", "Coordinator", "HTTP", "Gateway",
    ], path: "Benchmarks/Bench", tests: ["Simulation"])
  + [
    .target(
      name: "CodeBench", dependencies: ["Ring", "Coding"], path: "Benchmarks/CodeBench",
      swiftSettings: settings),
    .executableTarget(
      name: "cairn",
      dependencies: [
        "Ring", "Coding", "Wire", "Service", "HTTP", "Cluster", "Messages", "ShardStore",
        "Stripes", "Metadata", "DataPath", "Gateway", "Node", "Coordinator", "Simulation", "Swarm",
        "Bench", "CodeBench",
        "Tuning",
        "CCommit",
      ], swiftSettings: settings),
    .target(
      name: "TestSupport", dependencies: ["Ring"], path: "Tests/TestSupport",
      swiftSettings: settings),
    .testTarget(
      name: "CairnTests", dependencies: ["cairn", "Ring", "TestSupport"], path: "Tests/CairnTests",
      swiftSettings: settings),
    .testTarget(
      name: "SystemTests", dependencies: ["TestSupport", "Ring"],
      path: "Tests/SystemTests", swiftSettings: settings),
    isFuzzing
      ? .executableTarget(
        name: "Fuzz", dependencies: fuzzDependencies, path: "Tests/Fuzz",
        exclude: ["CorpusTests.swift", "corpus", "dictionaries"],
        swiftSettings: settings + [.unsafeFlags(fuzzing)],
        linkerSettings: [.unsafeFlags(["-sanitize=fuzzer"])])
      : .testTarget(
        name: "FuzzTests", dependencies: fuzzDependencies + ["TestSupport"], path: "Tests/Fuzz",
        exclude: ["Entry.swift", "corpus", "dictionaries"], swiftSettings: settings),
  ]

/// `CAIRN_ONLY=ShardStoreTests swift test` builds those targets and what they need, nothing else.
func selected(_ targets: [Target]) -> [Target] {
  guard let only = Context.environment["CAIRN_ONLY"], !only.isEmpty else { return targets }
  var wanted = Set(only.split(separator: ",").map(String.init))
  while true {
    let more = targets.filter { wanted.contains($0.name) }
      .flatMap { $0.dependencies }
      .compactMap { dependency -> String? in
        if case .byNameItem(let name, _) = dependency { name } else { nil }
      }
    let before = wanted.count
    wanted.formUnion(more)
    if wanted.count == before { return targets.filter { wanted.contains($0.name) } }
  }
}

let chosen = selected(everything)
let package = Package(
  name: "cairn",
  products: chosen.contains { $0.name == "cairn" }
    ? [.executable(name: "cairn", targets: ["cairn"])] : [],
  targets: chosen,
  cxxLanguageStandard: .cxx17
)
