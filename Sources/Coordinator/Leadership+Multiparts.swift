import Messages
import Metadata
import Ring
import Service
import Wire

extension Leadership {
  /// Multipart uploads looked at in one piece.
  private static let multipartPageLimit = 256

  /// Ends multipart uploads that were begun too long ago, by the cluster's time.
  func expireMultiparts() async {
    while await pause(configuration.multipartInterval) {
      guard isLeading() else { continue }
      var cursor: MultipartRow?
      var hasAny = false
      repeat {
        let after = cursor
        let page = await look { (machine) throws(StoreError) in
          (
            rows: try machine.multiparts(after: after, limit: Self.multipartPageLimit),
            time: machine.time
          )
        }
        guard let page else { break }
        cursor = page.rows.count < Self.multipartPageLimit ? nil : page.rows.last?.row
        hasAny = hasAny || !page.rows.isEmpty
        let lifetime = UInt64(clamping: configuration.multipartLifetime.wholeMilliseconds)
        let old = page.rows.filter { page.time >= lifetime && $0.opened <= page.time - lifetime }
        if old.isEmpty { continue }
        do throws(Refusal) {
          _ = try await submit(.expireMultiparts(old.map(\.row)))
          log.info("multipart uploads expired", ["count": old.count])
        } catch {
          // Tried again, by us or by the next leader.
          break
        }
      } while cursor != nil && isLeading()
      guard hasAny, isLeading() else { continue }
      do throws(Refusal) {
        // The cluster's time stands still while nothing is logged, and those that are left wait for it.
        _ = try await submit(.advanceTime(milliseconds: 0))
      } catch {
        // The next turn logs it.
      }
    }
  }
}
