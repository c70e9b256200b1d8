// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

/// Threads that read batches ahead of one consumer, a bounded number of them, and hand them out in
/// order.
///
/// `start` drops what was read for an earlier run without waiting for reads that are under way:
/// their results are thrown away when they come. The destructor waits for these reads.
class ReadAhead {
 public:
  /// Reads one batch; may throw anything.
  using Read = std::function<Batch(std::int64_t epoch, std::int64_t batch)>;

  /// @param readers   one for each thread; each is called by its thread alone.
  /// @param capacity  batches read or being read that the consumer hasn't got, at most; >= 1.
  /// @throws StateError  the system gives no more threads.
  ReadAhead(std::vector<Read> readers, std::int64_t capacity);
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  /// Reads the batches [first, end) of `epoch` from now on.
  void start(std::int64_t epoch, std::int64_t first, std::int64_t end);

  /// The next batch of the run, of which there is one; waits for it, and throws what reading it
  /// threw.
  Batch next();

  /// Whether `next` wouldn't wait.
  bool ready();

 private:
  struct Slot {
    bool filled = false;
    Batch batch;
    std::exception_ptr error;
  };

  static Slot filled_by(const Read& read, std::int64_t epoch, std::int64_t batch) noexcept;
  Slot& slot_of(std::int64_t batch);
  void work(const Read& read);
  void stop();

  const std::int64_t capacity_;
  std::mutex mutex_;                  // of what follows, readers and threads aside
  std::condition_variable may_read_;  // there is a batch to claim, or it is time to leave
  std::condition_variable arrived_;   // the batch that the consumer waits for has been read
  bool stopping_ = false;
  std::int64_t run_ = 0;  // counts starts
  std::int64_t epoch_ = 0;
  std::int64_t taken_ = 0;    // batches before this one have been handed out
  std::int64_t claimed_ = 0;  // batches before this one have been read or are being read
  std::int64_t end_ = 0;
  std::vector<Slot> slots_;  // of the batches [taken_, claimed_), in a ring
  std::vector<Read> readers_;
  std::vector<std::thread> threads_;
};

}  // namespace torch_accelerated
