package import Ring

/// What a job, or a group of jobs reported together, came to.
package struct JobOutcome: Sendable {
  package var options: JobOptions
  package var group: Int
  package var jobCount: Int
  package var statistics: JobStatistics
  package init(options: JobOptions, group: Int, jobCount: Int, statistics: JobStatistics) {
    self.options = options
    self.group = group
    self.jobCount = jobCount
    self.statistics = statistics
  }
}

/// What a whole run came to.
package struct RunOutcome: Sendable {
  package var request: BenchRequest
  package var jobs: [JobOutcome]
  /// Of the process, over the time of the measurements: jobs, and the daemons that ran beside them.
  package var usage = ResourceUsage()
  /// Since 1970.
  package var time = Duration.zero
  package var version: String
  package init(request: BenchRequest, jobs: [JobOutcome], version: String) {
    self.request = request
    self.jobs = jobs
    self.version = version
  }
}
