import Coding
import Messages
import Service

/// A part that CompleteMultipartUpload names.
struct WantedPart: Equatable {
  var number: UInt32
  /// Without quotes.
  var etag: String
  /// By the names of their algorithms.
  var checksums: [String: String] = [:]

  static let documentByteLimit = 4 << 20

  /// - Throws: MalformedXML, InvalidPartOrder.
  static func read(_ bytes: [UInt8]) throws(S3Error) -> [WantedPart] {
    let tree: XMLTree
    do throws(XMLTree.Malformed) {
      tree = try XMLTree.read(
        bytes, root: "CompleteMultipartUpload",
        elementLimit: 16 + 8 * Int(NewPart.numbers.upperBound))
    } catch {
      throw S3Error(.malformedXML)
    }
    var wanted: [WantedPart] = []
    for item in tree.all("Part") {
      guard let text = item.value("PartNumber"), let number = UInt32(text),
        NewPart.numbers.contains(number), let etag = item.value("ETag")
      else { throw S3Error(.malformedXML) }
      var part = WantedPart(number: number, etag: etag.filter { $0 != "\"" })
      for (_, name) in BodyClaims.checksums {
        if let value = item.value("Checksum" + name) { part.checksums[name] = value }
      }
      if let last = wanted.last, number <= last.number { throw S3Error(.invalidPartOrder) }
      wanted.append(part)
    }
    guard !wanted.isEmpty, wanted.count <= Int(NewPart.numbers.upperBound) else {
      throw S3Error(.malformedXML)
    }
    return wanted
  }

  /// The parts that are wanted, out of those that are there.
  ///
  /// - Throws: InvalidPart, EntityTooSmall.
  static func choose(
    _ wanted: [WantedPart], _ known: [UInt32: ListParts.Part], _ algorithm: PartFacts.Algorithm?
  ) throws(S3Error) -> [ListParts.Part] {
    var parts: [ListParts.Part] = []
    for want in wanted {
      guard let part = known[want.number], hexText(part.part.etagBytes) == want.etag.lowercased(),
        want.checksums.allSatisfy({ name, value in
          // One that was not asked for at the beginning was checked with the part and not kept.
          name != algorithm?.name || value == Base64.encode(part.part.checksum)
        })
      else {
        throw S3Error(.invalidPart).with("PartNumber", String(want.number))
          .with("ETag", want.etag)
      }
      parts.append(part)
    }
    for part in parts.dropLast() where part.part.byteCount < S3Service.leastPartByteCount {
      throw S3Error(.entityTooSmall).with("ProposedSize", String(part.part.byteCount))
        .with("MinSizeAllowed", String(S3Service.leastPartByteCount))
        .with("PartNumber", String(part.part.number)).with("ETag", hexText(part.part.etagBytes))
    }
    return parts
  }
}
