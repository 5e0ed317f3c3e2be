/// Every subcommand: what it is called, takes and does. Help, usage errors and completion are made from it.
struct CommandSpec: Sendable {
  /// ["cluster", "up"]
  var path: [String]
  var summary: String
  /// After the name: "[-r] SRC... cairn://BUCKET/KEY".
  var usage: String
  /// What the help says beyond the options; may be empty.
  var details = ""
  var options: [OptionSpec] = []
  var operands: ClosedRange<Int> = 0...0
  var isHidden = false
  /// Has a language of its own: every word is an operand, as it stands.
  var parsesItself = false
  var run: @Sendable (Context) async throws(Failure) -> Void

  var name: String { path.joined(separator: " ") }

  var help: String {
    var text = "usage: cairn \(name)\(usage.isEmpty ? "" : " " + usage)\n\n\(summary)\n"
    if !details.isEmpty { text += "\n\(details)\n" }
    let all = options + [OptionSpec("--help", short: "-h", "this text")]
    text += "\noptions:\n"
    let left = all.map { option in
      "  " + (option.short.map { $0 + ", " } ?? "    ") + option.name
        + (option.value.map { " " + $0 } ?? "")
    }
    let width = (left.map(\.count).max() ?? 0) + 2
    for (option, column) in zip(all, left) {
      text += column + String(repeating: " ", count: width - column.count) + option.help + "\n"
    }
    return text
  }
}

private let config = OptionSpec(
  "--config", value: "FILE",
  "the client's configuration (default: $CAIRN_CONFIG, ./.cairn/client.toml)")
private let session = OptionSpec(
  "--session", value: "FILE", "remembers there how far the log is, for --consistency read-own")
private let consistency = OptionSpec(
  "--consistency", value: "LEVEL", "strong, read-own (with --session) or eventual (default: strong)"
)
/// For buckets that a passphrase encrypts.
private let passphrase = [
  OptionSpec(
    "--passphrase-file", value: "FILE",
    "what encrypts the bucket (default: $CAIRN_PASSPHRASE_FILE, or as configured)"),
  OptionSpec("--ask-passphrase", "ask for it on the terminal"),
]
private let json = OptionSpec("--json", "machine-readable output, an object a line")
private let recursive = OptionSpec("--recursive", short: "-r", "a whole tree")
private let directory = OptionSpec(
  "--dir", value: "DIR", "where the cluster's files are (default: ./.cairn)")
private let quiet = OptionSpec("--quiet", short: "-q", "no output but errors")
private let jobs = OptionSpec(
  "--jobs", short: "-j", value: "N", "objects under way at once (default: 256 for put, 64 for get)")
private let versionOption = OptionSpec(
  "--version", value: "ID", "that version, as 'ls --versions' has it, or 'null'")
private let scrubbedNode = OptionSpec("--node", value: "NODE", "only this node's devices")
private let scrubbedDevice = OptionSpec("--device", value: "DEVICE", "only this device")
private let daemonConfig = OptionSpec("--config", value: "FILE", "the daemon's configuration")

let commandTable: [CommandSpec] = [
  CommandSpec(
    path: ["cluster", "up"],
    summary: "Start a cluster of real daemons on this machine and wait until it is ready.",
    usage: "[--dir DIR] [--nodes N] [--coordinators C] [--scheme K+M] [OPTION...]",
    details: """
      Makes DIR when it is not there; otherwise starts those of its daemons that do not run. Without --scheme the
      widest one that the node count allows is taken: 6+3, 4+2, 3+2, 2+1, 1+1, or one copy. With --security
      automatic, links that leave this machine are TLS 1.3 and those on loopback plain frames, both between peers
      that proved the cluster's key; always is TLS 1.3 here too. With several coordinators one leads and the others
      stand by; etcd, which has to be installed, is started beside them and names the leader.
      """,
    options: [
      directory, OptionSpec("--nodes", value: "N", "storage nodes, 1 to 64 (default: 9)"),
      OptionSpec("--coordinators", value: "C", "1, 3 or 5 coordinators (default: 1)"),
      OptionSpec("--scheme", value: "K+M", "data and parity blocks of a stripe"),
      OptionSpec("--gateways", value: "N", "S3 gateways, 0 or 1 (default: 1)"),
      OptionSpec("--no-gateway", "as --gateways 0"),
      OptionSpec("--devices", value: "N", "devices of each node (default: 1)"),
      OptionSpec("--capacity", value: "SIZE", "bytes each device may hold (default: 64GiB)"),
      OptionSpec(
        "--security", value: "HOW", "automatic, always or never TLS (default: automatic)"),
      OptionSpec("--port", value: "BASE", "first of the ports to use (default: any free ones)"),
      OptionSpec("--timeout", value: "SECONDS", "how long to wait until it is ready (default: 60)"),
      quiet,
    ], run: clusterUp),
  CommandSpec(
    path: ["cluster", "down"], summary: "Stop every daemon of the cluster; the data stays.",
    usage: "[--dir DIR]", options: [directory, quiet], run: clusterDown),
  CommandSpec(
    path: ["cluster", "status"], summary: "Show every daemon of the cluster.",
    usage: "[--dir DIR] [--json]",
    details: """
      Exit status 1 when no coordinator leads, or the one that does takes no writes: too few nodes take the metadata log, or
      all devices are full. The last line then says why.
      """,
    options: [directory, json], run: clusterStatus),
  CommandSpec(
    path: ["mb"], summary: "Make a bucket.",
    usage: "[--class CLASS] [--key-domain NAME] [--encrypt] BUCKET",
    details: """
      3 to 63 lower-case letters, digits, dots and hyphens, as S3 has it. Its storage class says how what it holds is compressed
      and coded: 'cairn admin class list' names them. In a key domain what it holds is encrypted: 'cairn admin key domain list' names
      them. Buckets of one class and one key domain share what is the same in them. With --encrypt it is encrypted by a passphrase
      that the cluster never has, names of objects too: whoever reads or writes it gives the passphrase, and what was stored is lost
      with it. The key domain is then called as the bucket, or as --key-domain says; one that is there is joined.
      """,
    options: [
      OptionSpec("--class", value: "CLASS", "storage class (default: warm)"),
      OptionSpec("--key-domain", value: "NAME", "encrypt under this domain's keys"),
      OptionSpec("--encrypt", "encrypt with a passphrase"),
    ] + passphrase + [session, config], operands: 1...1, run: makeBucket),
  CommandSpec(
    path: ["bucket", "versioning"],
    summary: "Show whether a bucket keeps older versions, or have it begin or stop to.",
    usage: "[--on | --suspend] [--json] BUCKET",
    details: """
      With versions on, what is replaced or deleted stays until it is removed by its version id ('ls --versions', 'get --version',
      'rm --version'), and a delete leaves a marker. Once on they can be suspended, not taken back.
      """,
    options: [
      OptionSpec("--on", "keep versions from now on"),
      OptionSpec("--suspend", "make no new ones; those there are stay"), json, session, config,
    ], operands: 1...1, run: bucketVersioning),
  CommandSpec(
    path: ["rb"], summary: "Remove an empty bucket.", usage: "BUCKET", options: [session, config],
    operands: 1...1, run: removeBucket),
  CommandSpec(
    path: ["put"], summary: "Store files, standard input (-), or with -r whole trees.",
    usage: "[-r] [--encrypt] SRC... cairn://BUCKET/KEY",
    details: """
      'put -r SRC cairn://b/p' makes objects p/<path below SRC>; links stay links, modes and times are kept.
      A key that ends in a slash gets the source's name. What the cluster holds already with the same bytes and
      attributes is left as it is. An object becomes visible when all of it is stored. A file that changes while
      it is read is read again, a few times, and then refused; the other files are stored all the same.
      """,
    options: [
      recursive, jobs,
      OptionSpec("--encrypt", "refuse a bucket that no passphrase encrypts"),
    ] + passphrase + [session, config], operands: 2...Int.max, run: put),
  CommandSpec(
    path: ["get"],
    summary: "Fetch an object into a file, or with -r everything below a prefix into a folder.",
    usage: "[-r] cairn://BUCKET/KEY DEST",
    details: """
      'get -r cairn://b/p DEST' makes DEST/<path below p>. A file appears under its name only when it is complete;
      a DEST that is a folder or ends in a slash gets the object's last name, '-' is standard output, a device or
      pipe is written to, and a link is followed. A range may be open at one end: '100-' is all from byte 100 on,
      '-100' the last 100 bytes.
      """,
    options: [
      recursive,
      OptionSpec("--range", value: "FIRST-LAST", "only these bytes, both ends included"), jobs,
      versionOption,
    ] + passphrase + [consistency, session, config], operands: 2...2, run: get),
  CommandSpec(
    path: ["cat"], summary: "Write objects to standard output.", usage: "cairn://BUCKET/KEY...",
    options: [
      OptionSpec("--range", value: "FIRST-LAST", "only these bytes of each, both ends included"),
      versionOption,
    ] + passphrase + [consistency, session, config],
    operands: 1...Int.max, run: cat),
  CommandSpec(
    path: ["ls"], summary: "List buckets, or the keys at a prefix.",
    usage: "[-r] [--versions] [--json] [cairn://BUCKET/PREFIX]",
    details: "Without -r keys are grouped at the next slash after the prefix.",
    options: [
      OptionSpec("--recursive", short: "-r", "every key below the prefix"),
      OptionSpec("--versions", "older versions and delete markers too; * is the current one"), json,
    ] + passphrase + [consistency, session, config],
    operands: 0...1, run: list),
  CommandSpec(
    path: ["stat"],
    summary: "Show an object: size, hash, times, containers, how many losses it survives.",
    usage: "cairn://BUCKET/KEY",
    options: [versionOption, json] + passphrase + [consistency, session, config],
    operands: 1...1, run: stat),
  CommandSpec(
    path: ["rm"], summary: "Delete objects.", usage: "[-r] cairn://BUCKET/KEY...",
    details:
      """
      Several keys are deleted side by side: when one of them fails others are gone all the same. Where a bucket keeps versions a
      delete leaves a marker; with --version that version goes for good.
      """,
    options: [
      versionOption,
      OptionSpec("--recursive", short: "-r", "the key and everything below it"), json,
    ] + passphrase + [session, config],
    operands: 1...Int.max, run: remove),
  CommandSpec(
    path: ["cp"],
    summary:
      "Copy an object inside the cluster; within a storage class and key domain no byte moves.",
    usage: "[-r] cairn://BUCKET/KEY cairn://BUCKET/KEY",
    details: """
      A target without a key or with one that ends in a slash gets the source's last name. 'cp -r cairn://a/p cairn://b/q' makes
      q/<path below p> of everything below p. What fails is named, and the rest is copied all the same.
      """,
    options: [recursive, versionOption, json] + passphrase + [session, config], operands: 2...2,
    run: copy),
  CommandSpec(
    path: ["mv"],
    summary:
      "Rename an object inside the cluster, in one step within a storage class and key domain.",
    usage: "[-r] cairn://BUCKET/KEY cairn://BUCKET/KEY",
    details: """
      A target without a key or with one that ends in a slash gets the source's last name. 'mv -r cairn://a/p cairn://b/q' makes
      q/<path below p> of everything below p, one object after the other: what fails is named and stays where it was.
      """,
    options: [recursive, json] + passphrase + [session, config], operands: 2...2, run: move),
  CommandSpec(
    path: ["df"], summary: "Show what is stored and what it takes.", usage: "[--json]",
    options: [json, consistency, session, config], run: usage),
  CommandSpec(
    path: ["admin", "nodes"], summary: "Show nodes and their devices.", usage: "[--all] [--json]",
    details: """
      A device is unknown (not heard of yet), healthy, degraded (many times slower than others of its kind), offline, draining,
      lost (silent for so long that its shards are written anew elsewhere), failed (takes no writes) or retired.
      """,
    options: [
      OptionSpec("--all", "nodes that are given up and down too; --json always has them"), json,
      config,
    ], run: adminNodes),
  CommandSpec(
    path: ["admin", "drain"],
    summary: "Empty nodes or devices: what they hold is written elsewhere.",
    usage: "[--cancel] [--force] NODE|DEVICE...",
    details: """
      Refused when the others have no room for it, or too few failure domains would be left. They serve until they are
      empty ('cairn admin repair status' tells how far that is); then retire them, and switch them off.
      """,
    options: [
      OptionSpec("--cancel", "take it back: they take new data again"),
      OptionSpec("--force", "begin in any case"), config,
    ], operands: 1...Int.max, run: adminDrain),
  CommandSpec(
    path: ["admin", "retire"],
    summary: "Give nodes or devices up for good; what they hold is rebuilt from the others.",
    usage: "[--force] NODE|DEVICE...",
    details: """
      At once, without the wait that a silent device gets. Refused when some container would have lost more than its code
      can bear, the others have no room, or too few failure domains would be left. A retired device never takes data again.
      """,
    options: [OptionSpec("--force", "though data may be lost"), config],
    operands: 1...Int.max, run: adminRetire),
  CommandSpec(
    path: ["admin", "repair", "status"],
    summary: "Show how many losses everything survives, and what is being rebuilt.",
    usage: "[--objects] [--json]",
    options: [
      OptionSpec("--objects", "name the objects that cannot be read whole, too"), json, config,
    ], run: repairStatus),
  CommandSpec(
    path: ["admin", "gc"],
    summary: "Show how much of what is stored is dead, and remove it now.",
    usage: "[--dry-run] [--below PERCENT] [--wait] [--json]",
    details: """
      A container lives for as long as anything in it does. One of which less than 80 % is alive ([repair] collect_below of the
      coordinators), with 1 MiB dead, is packed anew without the rest by itself; this does it now, and for more of them, but for
      those with more than 131,072 objects. --dry-run says what would be done and changes nothing. Repair goes first, and all of it keeps to [repair] rate.
      """,
    options: [
      OptionSpec("--dry-run", "only say it"),
      OptionSpec(
        "--below", value: "PERCENT", "containers of which less than this is alive (default 95)"),
      OptionSpec("--wait", "until it is done"), json, config,
    ], run: collectGarbage),
  CommandSpec(
    path: ["admin", "scheme"],
    summary: "Show or change how many data and parity blocks a stripe has.",
    usage: "[--json] [K+M]",
    details: """
      What is stored already is coded anew bit by bit, while it is read and written ('cairn admin repair status' tells how far
      that is). Refused when there are fewer failure domains than K+M. With a larger M the metadata log gets more copies first,
      which takes some ten seconds.
      """,
    options: [json, config], operands: 0...1, run: adminScheme),
  CommandSpec(
    path: ["admin", "class", "list"],
    summary: "Show the storage classes, and what they hold.", usage: "[--json]",
    options: [json, consistency, session, config], run: listClasses),
  CommandSpec(
    path: ["admin", "class", "define"],
    summary: "Make a storage class, or change one.",
    usage: "NAME [--codec CODEC] [--level N] [--group SIZE] [--scheme K+M]",
    details: """
      A new class needs a codec; of one that there is, what is not said stays as it is, but that another codec has a level of
      its own. xz takes about a second of CPU for each MB or two. A change counts for what is written from then on; what is stored already gets another scheme bit by bit. With a larger M
      than the cluster's the metadata log gets more copies first, which takes some ten seconds.
      """,
    options: [
      OptionSpec("--codec", value: "CODEC", "raw, lz4, zstd or xz"),
      OptionSpec("--level", value: "N", "lz4 1 to 12, zstd -7 to 19, xz 0 to 9"),
      OptionSpec("--group", value: "SIZE", "bytes compressed together, 4KiB to 1MiB"),
      OptionSpec("--scheme", value: "K+M", "instead of the cluster's; default: the cluster's"),
      json, config,
    ], operands: 1...1, run: defineClass),
  CommandSpec(
    path: ["admin", "class", "set"],
    summary: "Give a bucket without objects another storage class.", usage: "BUCKET CLASS",
    options: [json, config], operands: 2...2, run: setClass),
  CommandSpec(
    path: ["admin", "key", "new"], summary: "Add a master key to a file, or make the file.",
    usage: "FILE [NAME]",
    details: """
      For the master_keys of coordinators, of which each needs the same file; keys in a PKCS#11 token or a key service are made
      with its own tools. Without NAME it is called by
      today's date and four digits. The last key of
      the file wraps; the others are needed until 'cairn admin key rotate' was carried out. Without the file nothing that is
      encrypted can be read: keep a copy where the cluster is not.
      """,
    options: [], operands: 1...2, run: newMasterKey),
  CommandSpec(
    path: ["admin", "key", "rotate"],
    summary: "Wrap the keys of all key domains under the current master key.", usage: "[--json]",
    details: """
      No stored byte is touched. The coordinators read their master_keys file anew for it; in a PKCS#11 token or a key service the
      key wraps that their configuration names. The old master key, and the place that [master_keys.old] names, are not needed any more
      afterwards.
      """,
    options: [json, config], run: rotateMasterKey),
  CommandSpec(
    path: ["admin", "key", "domain", "create"], summary: "Make a key domain.",
    usage: "[--json] NAME",
    details: """
      What buckets of a key domain hold is encrypted at rest under keys of its own: 'cairn mb --key-domain NAME'. Nothing is shared
      with other domains. The coordinators need a master key (master_keys in their configuration).
      """,
    options: [json, config], operands: 1...1, run: createKeyDomain),
  CommandSpec(
    path: ["admin", "key", "domain", "list"],
    summary: "Show the key domains, and the master keys that wrap theirs.", usage: "[--json]",
    options: [json, consistency, session, config], run: listKeyDomains),
  CommandSpec(
    path: ["admin", "key", "domain", "passphrase"],
    summary: "Give a key domain that a passphrase opens another one.",
    usage: "--new-passphrase-file FILE NAME",
    details: """
      No stored byte is touched, and the domain's key stays the same: who had it and the old passphrase can read on until the
      objects are written anew.
      """,
    options: [
      OptionSpec("--new-passphrase-file", value: "FILE", "what is to open it"),
      OptionSpec("--ask-new-passphrase", "ask for that on the terminal"), json,
    ] + passphrase + [config], operands: 1...1, run: changePassphrase),
  CommandSpec(
    path: ["admin", "key", "domain", "rotate"],
    summary: "Give a key domain a new key, and wrap all its data keys under that.",
    usage: "[--json] NAME", options: [json, config], operands: 1...1, run: rotateKeyDomain),
  CommandSpec(
    path: ["admin", "key", "domain", "set"],
    summary: "Give a bucket without objects another key domain, or none.",
    usage: "BUCKET (NAME | --none)",
    options: [OptionSpec("--none", "not encrypted"), json, config], operands: 1...2,
    run: setKeyDomain),
  CommandSpec(
    path: ["admin", "user", "create"], summary: "Make a user of the S3 gateways.",
    usage: "[--json] NAME",
    details: """
      A user may do what its policies allow, and what buckets grant it: at first nothing. Access keys in a gateway's access_keys file
      are no users; they may do everything.
      """,
    options: [json, config], operands: 1...1, run: createUser),
  CommandSpec(
    path: ["admin", "user", "list"], summary: "List the users.", usage: "[--json]",
    options: [json, consistency, session, config], run: listUsers),
  CommandSpec(
    path: ["admin", "user", "show"], summary: "Show a user, its access keys and its policies.",
    usage: "[--json] NAME", options: [json, consistency, session, config], operands: 1...1,
    run: showUser),
  CommandSpec(
    path: ["admin", "user", "disable"], summary: "Lock a user out; nothing of it is lost.",
    usage: "[--json] NAME",
    details: "Gateways know it within 10 seconds. What is under way by then goes on to its end.",
    options: [json, config], operands: 1...1, run: disableUser),
  CommandSpec(
    path: ["admin", "user", "enable"], summary: "Let a user in again.", usage: "[--json] NAME",
    options: [json, config], operands: 1...1, run: enableUser),
  CommandSpec(
    path: ["admin", "user", "delete"],
    summary: "Delete a user with its access keys and policies.", usage: "[--json] NAME",
    details:
      "Buckets' policies that name it stay as they are, and mean a user of that name again if one is made.",
    options: [json, config], operands: 1...1, run: deleteUser),
  CommandSpec(
    path: ["admin", "user", "key", "create"], summary: "Make an access key for a user.",
    usage: "[--json] USER",
    details: """
      Its secret is printed here and never again: the cluster keeps it encrypted under a key made of the cluster's key file. A
      user may have at most 8 access keys when another is made.
      """,
    options: [json, config], operands: 1...1, run: createAccessKey),
  CommandSpec(
    path: ["admin", "user", "key", "rotate"],
    summary: "Make another access key for the same user, and disable the old one.",
    usage: "[--json] ACCESS-KEY",
    details: """
      In one step. To change over without a gap, 'key create', let clients use the new one, then 'key disable' the old.
      Rotated keys stay until 'key delete': a user may have 8 more of them than it may create.
      """,
    options: [json, config], operands: 1...1, run: rotateAccessKey),
  CommandSpec(
    path: ["admin", "user", "key", "disable"], summary: "Switch an access key off.",
    usage: "[--json] ACCESS-KEY", details: "Gateways know it within 10 seconds.",
    options: [json, config], operands: 1...1, run: disableAccessKey),
  CommandSpec(
    path: ["admin", "user", "key", "enable"], summary: "Switch an access key on again.",
    usage: "[--json] ACCESS-KEY", options: [json, config], operands: 1...1, run: enableAccessKey),
  CommandSpec(
    path: ["admin", "user", "key", "delete"], summary: "Delete an access key.",
    usage: "[--json] ACCESS-KEY", options: [json, config], operands: 1...1, run: deleteAccessKey),
  CommandSpec(
    path: ["admin", "user", "policy", "set"],
    summary: "Give a user a policy, or another in the place of one.",
    usage: "[--json] USER POLICY FILE",
    details: """
      FILE ('-': standard input) is a document in the AWS JSON grammar without principals. All of a user's together have at most 20 KiB. docs/s3.md has
      what is understood; what is not is refused.
      """,
    options: [json, config], operands: 3...3, run: setUserPolicy),
  CommandSpec(
    path: ["admin", "user", "policy", "show"], summary: "Print a user's policy as it was given.",
    usage: "[--json] USER POLICY", options: [json, consistency, session, config], operands: 2...2,
    run: showUserPolicy),
  CommandSpec(
    path: ["admin", "user", "policy", "delete"], summary: "Take a policy from a user.",
    usage: "[--json] USER POLICY", options: [json, config], operands: 2...2,
    run: deleteUserPolicy),
  CommandSpec(
    path: ["admin", "scrub", "status"],
    summary: "Show how far each device's scrub is and what it found.",
    usage: "[--node NODE] [--device DEVICE] [--json]",
    options: [scrubbedNode, scrubbedDevice, json, config], run: scrubStatus),
  CommandSpec(
    path: ["admin", "scrub"],
    summary: "Have devices read and compare everything they hold, from the first block, now.",
    usage: "[--node NODE] [--device DEVICE] [--rate SIZE] [--wait] [--json]",
    details: """
      They do so by themselves in the time that their nodes' configuration says ([scrub] interval). What is found damaged is
      mended from the other blocks of its stripe. With --wait the exit status is 1 when a device could not be read through.
      """,
    options: [
      scrubbedNode, scrubbedDevice,
      OptionSpec("--rate", value: "SIZE", "bytes a second of each device (default: as configured)"),
      OptionSpec("--wait", "until all is read"), json, config,
    ], run: adminScrub),
  CommandSpec(
    path: ["admin", "fsck"],
    summary: "Compare the metadata with itself, with what nodes hold, and with what can be read.",
    usage: "[--repair] [--json]",
    details: """
      Edges, counts and indexes are computed anew from objects, pages and directories; each device's shards and blocks are
      compared with the directories; objects whose chunks cannot be read are named. Prints a line for each disagreement. The
      cluster goes on meanwhile. Without --repair nothing is changed; with it blocks that are gone are written anew and what
      nothing names is deleted. Exit status 0 when all agrees, 1 when something does not or could not be looked at.
      """,
    options: [
      OptionSpec("--repair", "mend what is safe to mend"), json, config,
    ], run: fsck),
  CommandSpec(
    path: ["admin", "step-down"],
    summary: "Have the leading coordinator hand over to a standby, as before an upgrade of it.",
    usage: "[--json]",
    details: """
      The leader finishes what is under way and gives its lease up, so that a standby leads at once; clients find it by
      themselves. Refused when no standby answers.
      """,
    options: [json, config], run: stepDown),
  CommandSpec(
    path: ["coordinator"], summary: "Run a coordinator in the foreground.", usage: "--config FILE",
    options: [daemonConfig], run: runCoordinator),
  CommandSpec(
    path: ["node"], summary: "Run a storage node in the foreground.", usage: "--config FILE",
    options: [daemonConfig], run: runNode),
  CommandSpec(
    path: ["gateway"], summary: "Run an S3 gateway in the foreground.", usage: "--config FILE",
    options: [daemonConfig], run: runGateway),
  CommandSpec(
    path: ["tune"],
    summary: "Look at and measure a disk; show the profile that fits it, and why.",
    usage: "DEVICE [--write FILE] [--runtime SECONDS] [--json] [--read-only]",
    details: """
      DEVICE is a directory on the disk, such as a node's device directory, or a block device. In a directory a scratch
      file without a name is written and read, which is gone when tune ends, however it ends; a block device is only
      read. FILE can stand as 'profile = "FILE"' in the device's table of a node's configuration. docs/tuning.md.
      """,
    options: [
      OptionSpec("--write", value: "FILE", "write the profile, with the figures as comments"),
      OptionSpec("--runtime", value: "SECONDS", "how long to measure, 1 to 600 (default: 10)"),
      OptionSpec("--read-only", "write nothing: measure by reading the disk under the directory"),
      json,
    ], operands: 1...1, run: tune),
  CommandSpec(
    path: ["sim"],
    summary: "Run whole clusters under faults in simulated time, from seeds.",
    usage: "(--seed N | --seeds A..B | --for DURATION) [--seconds S] [--jobs J] [--trace] [--json]",
    details: """
      A seed draws a cluster, a workload and faults, and replays them exactly. Exit status 0 when every property held, 1
      at the first failure, which is shown with what replays it. docs/simulation.md tells what is checked.
      """,
    options: [
      OptionSpec("--seed", value: "N", "one seed, as in a failure's report"),
      OptionSpec("--seeds", value: "A..B", "these seeds, both ends included"),
      OptionSpec("--for", value: "DURATION", "fresh seeds for that real time; bounds --shrink"),
      OptionSpec("--seconds", value: "S", "simulated seconds of work (default: as the seed draws)"),
      OptionSpec("--jobs", short: "-j", value: "J", "seeds at once, a process each (default: 1)"),
      OptionSpec("--time-limit", value: "DURATION", "real time for a seed (default: 5min)"),
      OptionSpec("--keep-going", "go on after a failure"),
      OptionSpec("--twice", "each seed twice in one process: the event hash must be the same"),
      OptionSpec("--trace", "every event of one seed, a line each"),
      OptionSpec("--shrink", "drop faults, operations and seconds while the failure stays"),
      OptionSpec("--only-faults", value: "LIST", "of the planned faults these: 0-4,9 or none"),
      OptionSpec("--only-operations", value: "LIST", "of the planned operations these"),
      OptionSpec("--child", "report to a parent process"), json,
    ], run: simulate),
  CommandSpec(
    path: ["bench", "code"],
    summary: "Measure the kernels: chunking, hashing, checksums, coding, compression, encryption.",
    usage: "[--only NAME,...] [--size SIZE] [--runtime SECONDS] [--json]",
    details: """
      In one thread, over bytes that are the same in every run. GB are 10^9 bytes of input. CPU-s/GB is the thread's own
      time, which other load on the machine changes least. Benchmarks/compare/code holds it against the C libraries.
      """,
    options: [
      OptionSpec(
        "--only", value: "NAME,...", "these, or what begins with them: sha256,rs/6+3/encode"),
      OptionSpec("--size", value: "SIZE", "of a piece, a block, a stream (default: each its own)"),
      OptionSpec("--runtime", value: "SECONDS", "for each row, or 200ms and the like (default: 1)"),
      OptionSpec("--list", "print the names and do nothing"), json,
    ], run: benchCode),
  CommandSpec(
    path: ["bench", "idle"],
    summary: "Hold many connections to a daemon that ask nothing, and measure a call beside them.",
    usage: "[--config FILE] [--connections N] [--hold TIME] [--json] ADDRESS...",
    details: """
      Each connection has proved the cluster's key and asked once. A machine has some 28,000 ports for each address of the
      daemon's: give several (127.0.0.1:7001 127.0.0.2:7001 ...) where it listens on all (listen = "0.0.0.0:7001").
      Prints how many were held, what ended the opening, and a call's latency before and beside them.
      """,
    options: [
      config, OptionSpec("--connections", value: "N", "how many (default: 1000)"),
      OptionSpec("--hold", value: "TIME", "how long calls are measured, twice (default: 10s)"),
      json,
    ], operands: 1...Int.max, run: benchIdle),
  CommandSpec(
    path: ["bench"],
    summary: "Measure a part of Cairn as fio measures a disk.",
    usage: "ENGINE [--OPTION=VALUE...] [JOBFILE...]",
    details: """
      ENGINE is raw (files and devices through the event loop alone), store (a device's storage engine), node (a storage
      node over the wire), cluster (objects), net (loopback connections), meta (the coordinator) or s3 (objects through a
      gateway). Options, job files and the JSON have fio's names; what fio has and bench does not is refused by name. docs/bench.md tells the differences.
      Nothing that holds data is written to unless --overwrite-existing-data is given.
      """,
    options: benchOptions, operands: 0...Int.max, parsesItself: true, run: bench),
  CommandSpec(
    path: ["completion"], summary: "Print a completion script for bash.", usage: "bash",
    details: "In ~/.bashrc: source <(cairn completion bash)", operands: 1...1, run: completion),
]

/// The list of commands.
var overview: String {
  var text = """
    usage: cairn COMMAND [OPTION...] [OPERAND...]

    A distributed object and file store. 'cairn COMMAND --help' tells more.


    """
  let width = (commandTable.map(\.name.count).max() ?? 0) + 3
  text += summaries(commandTable, width: width)
  text += "\n  --version" + String(repeating: " ", count: width - 9) + "Print the version.\n"
  text += "\nExit status: 0 done, 1 failed, 2 wrong usage.\n"
  return text
}

/// The list of the commands whose first words are `group`.
func overview(of group: [String]) -> String {
  let commands = commandTable.filter { $0.path.starts(with: group) }
  let width = (commands.map(\.name.count).max() ?? 0) + 3
  let name = group.joined(separator: " ")
  return "usage: cairn \(name) COMMAND [OPTION...]\n\n" + summaries(commands, width: width)
    + "\n'cairn \(name) COMMAND --help' tells more.\n"
}

private func summaries(_ commands: [CommandSpec], width: Int) -> String {
  commands.map { command in
    "  " + command.name + String(repeating: " ", count: width - command.name.count)
      + command.summary + "\n"
  }.joined()
}
