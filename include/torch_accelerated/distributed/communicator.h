// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "torch_accelerated/base/error.h"
#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated {

/// In which order a sum over ranks adds.
enum class SumOrder {
  kRankOrder,  ///< ((x0 + x1) + x2) + x3
  kPairwise,   ///< (x0 + x1) + (x2 + x3), so that fewer ranks that each add a subtree get the same
};

/// An operation that has been started.
class Pending {
 public:
  virtual ~Pending() = default;

  /// Returns when the result may be used: on the CPU when it is there, on a device when the current
  /// stream waits for it.
  /// @throws CommunicationError  as the operation itself.
  virtual void wait() = 0;

  /// Returns when the result is there, for a host that reads it: also on a device, where it looks
  /// for lost ranks meanwhile, for no longer than the communicator's timeout.
  /// @throws CommunicationError  as the operation itself.
  virtual void wait_on_host() { wait(); }
};

/// Moves tensors and bytes between the ranks of a run.
///
/// All operations are collective but those that say otherwise: every rank calls them in the same
/// order with the same dtypes, from one thread at a time. Tensors are dense and contiguous, of any
/// shape, also without elements. What is summed is of float16, bfloat16 (both summed in float32 on
/// the CPU), float32, float64 or an integer dtype; what is only moved, of any.
///
/// A CommunicationError leaves the tensors unspecified and the communicator unusable: all later
/// operations throw. No destructor communicates; `close` releases what the ranks hold together.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const noexcept = 0;
  virtual int size() const noexcept = 0;

  /// How it moves data, for the table of the run: "one process", "MPI, shared window", "NCCL".
  virtual std::string name() const = 0;

  /// Replaces each of `tensors` by its sum over ranks; the shapes are the same on all ranks.
  /// @throws ArgumentError       a tensor that is sparse, not contiguous or of another dtype;
  /// nothing
  ///                             has been sent.
  /// @throws CommunicationError  a rank failed, came too late, or called something else.
  void all_reduce(std::span<torch::Tensor> tensors, SumOrder order = SumOrder::kRankOrder);

  /// Begins `all_reduce`; the tensors stay untouched until the result has been waited for, and
  /// other operations may be started before that. Of no tensors it ends after what the device has
  /// been asked for before.
  std::unique_ptr<Pending> start_all_reduce(std::span<torch::Tensor> tensors,
                                            SumOrder order = SumOrder::kRankOrder);

  /// Puts into `part` this rank's part of the sum of all ranks' `whole`s.
  /// @param whole  (size * n, ...), part: (n, ...).
  void reduce_scatter(torch::Tensor& part, const torch::Tensor& whole);

  /// The `tensor` of each rank, in rank order; the first dimensions may differ.
  std::vector<torch::Tensor> all_gather(const torch::Tensor& tensor);

  /// The `bytes` of each rank, in rank order; lengths may differ.
  std::vector<std::string> all_gather(const std::string& bytes);

  /// Sends parts[r] to rank r and returns what each rank has sent here, in rank order.
  /// @param parts  one for each rank, on one device and of one dtype; the first dimensions may
  ///               differ.
  std::vector<torch::Tensor> all_to_all(const std::vector<torch::Tensor>& parts);

  /// Replaces `tensor` by that of rank `root`; the shapes are the same on all ranks.
  void broadcast(torch::Tensor& tensor, int root);

  /// Replaces `bytes` by those of rank `root`; lengths may differ.
  void broadcast(std::string& bytes, int root);

  /// Returns when every rank has called it.
  void barrier();

  /// A flat tensor of `numel` zeros in memory from which `all_reduce` is fastest, such as one that
  /// the ranks of a host share.
  /// @param like  gives dtype and device.
  torch::Tensor make_buffer(std::int64_t numel, const torch::Tensor& like);

  /// Another communicator over the same ranks, whose operations never meet those of this one.
  std::unique_ptr<Communicator> duplicate();

  /// Releases what the ranks hold together; buffers that `make_buffer` made must not be used
  /// after it. A second call does nothing.
  void close();

  /// Tells all other ranks that this one goes no further: their waits throw. Not collective; this
  /// rank calls no other operation after it.
  void abort(const std::string& reason, ExitCode exit_code) noexcept;

  /// How long an operation waits for the other ranks. Not collective.
  void set_timeout(std::chrono::milliseconds timeout) noexcept { timeout_ = timeout; }
  std::chrono::milliseconds timeout() const noexcept { return timeout_; }

  /// Operations so far. Not collective.
  std::int64_t operations() const noexcept { return operation_.number; }

 protected:
  /// What is being done, for messages about ranks that don't come.
  struct Operation {
    const char* name = "nothing";
    std::int64_t number = 0;  // counts from 1
    std::int64_t bytes = 0;   // of this rank
  };

  Communicator() = default;
  const Operation& operation() const noexcept { return operation_; }

  // One step each; arguments have been checked, and tensors that are waited for are kept alive by
  // the implementer.
  virtual std::unique_ptr<Pending> do_all_reduce(std::span<torch::Tensor> tensors,
                                                 SumOrder order) = 0;
  virtual void do_reduce_scatter(torch::Tensor& part, const torch::Tensor& whole) = 0;
  virtual std::vector<torch::Tensor> do_all_gather(const torch::Tensor& tensor) = 0;
  virtual std::vector<torch::Tensor> do_all_to_all(const std::vector<torch::Tensor>& parts) = 0;
  virtual void do_broadcast(torch::Tensor& tensor, int root) = 0;
  virtual void do_broadcast(std::string& bytes, int root) = 0;
  virtual void do_barrier() = 0;
  virtual torch::Tensor do_make_buffer(std::int64_t numel, const torch::Tensor& like) = 0;
  virtual std::unique_ptr<Communicator> do_duplicate() = 0;
  virtual void do_close() = 0;
  virtual void do_abort(const std::string& reason, ExitCode exit_code) noexcept = 0;

  /// For implementers: what later operations are refused with. `close` and `abort` set it too.
  void break_off(std::string reason) noexcept;

 private:
  std::string broken() const;
  template <class Step>
  auto operate(const char* name, std::int64_t bytes, Step&& step);

  Operation operation_;
  mutable std::mutex mutex_;  // of the next: `abort` may come from another thread
  std::string broken_;        // why nothing more can be done; empty while it can
  bool closed_ = false;
  std::chrono::milliseconds timeout_{std::chrono::minutes(5)};
};

/// The communicator of a world of one process.
std::unique_ptr<Communicator> make_self_communicator();

}  // namespace torch_accelerated
