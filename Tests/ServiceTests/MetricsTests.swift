import Service
import Testing

@Test("metrics are written in Prometheus' format, in order")
func format() {
  let metrics = MetricsRegistry()
  let writes = metrics.counter("cairn_writes_total", "Writes.", ["device": "d\"1\\\n"])
  writes.add()
  writes.add(41)
  metrics.counter("cairn_writes_total", "Writes.", ["device": "a"]).add(7)
  metrics.gauge("cairn_load", "Load\nnow.").value = 0.25
  metrics.gauge("cairn_asked", "Asked.") { 3 }
  let latency = metrics.histogram("cairn_latency_seconds", "Latency.", bounds: [0.001, 1])
  for value in [0.001, 0.0011, 1, 2] { latency.observe(value) }
  latency.observe(.milliseconds(1))
  #expect(
    metrics.text() == #"""
      # HELP cairn_asked Asked.
      # TYPE cairn_asked gauge
      cairn_asked 3
      # HELP cairn_latency_seconds Latency.
      # TYPE cairn_latency_seconds histogram
      cairn_latency_seconds_bucket{le="0.001"} 2
      cairn_latency_seconds_bucket{le="1"} 4
      cairn_latency_seconds_bucket{le="+Inf"} 5
      cairn_latency_seconds_sum 3.0031
      cairn_latency_seconds_count 5
      # HELP cairn_load Load\nnow.
      # TYPE cairn_load gauge
      cairn_load 0.25
      # HELP cairn_writes_total Writes.
      # TYPE cairn_writes_total counter
      cairn_writes_total{device="a"} 7
      cairn_writes_total{device="d\"1\\\n"} 42

      """#)
}

@Test("asking again gives the same metric")
func same() {
  let metrics = MetricsRegistry()
  let first = metrics.counter("a_total", "A.", ["x": "1"])
  #expect(metrics.counter("a_total", "A.", ["x": "1"]) === first)
  #expect(metrics.counter("a_total", "A.", ["x": "2"]) !== first)
}
