// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "torch_accelerated/accelerator/autocast.h"
#include "torch_accelerated/accelerator/loss_scaling.h"
#include "torch_accelerated/accelerator/window.h"
#include "torch_accelerated/core/mean.h"
#include "torch_accelerated/core/state.h"
#include "torch_accelerated/core/step_output.h"
#include "torch_accelerated/core/tensor_dict.h"
#include "torch_accelerated/data/data_loader.h"
#include "torch_accelerated/distributed/communicator.h"
#include "torch_accelerated/distributed/world.h"

namespace torch_accelerated {

struct RecordedStep;  // the library's own

/// What happens to a parameter that got a gradient on some ranks only. One that got none on any
/// keeps none, as in one process.
enum class UnusedParameters {
  kZero,   ///< the other ranks' count as zero, which is what one process has
  kError,  ///< ArgumentError with its name, on all ranks
};

/// Whether gradients are reduced while backward is still going on, bucket by bucket.
enum class Overlap {
  kAuto,  ///< on a device, and on the CPU where a core is left for a thread that reduces
  kOn,    ///< on the CPU in a thread of its own, where MPI lets several threads call it
  kOff,   ///< when backward has ended
};

/// What gradients in float32 are compressed to while they travel between ranks.
enum class GradientCompression {
  kNone,
  kBf16,  ///< half the bytes, 8 bits of precision, the range of float32
  kFp16,  ///< half the bytes, 11 bits of precision; one that overflows counts as not finite
};

const char* to_string(GradientCompression compression);

/// When the host hears what has been decided of an update: whether it may reach the weights, its
/// loss, and what ranks ask for.
enum class Verdicts {
  kAuto,    ///< late on a GPU, at once on the CPU
  kAtOnce,  ///< before the optimizer steps
  kLate,  ///< when the next update is on its way; bad ones are kept from the weights by the device
};

/// Where steps run.
struct AcceleratorOptions {
  /// "cpu", "cuda" or "cuda:1"; empty: CUDA where there is a GPU, else the CPU.
  std::string device = {};
  MixedPrecision mixed_precision = MixedPrecision::kNo;
  LossScaling loss_scaling = {};  ///< with MixedPrecision::kFp16

  /// Lets torch::optim's SGD, Adam and AdamW step through ATen's fused kernels: several times as
  /// fast, and equal to their own steps but for how sums are rounded.
  bool fused_optimizers = true;

  /// Lays out images, tensors of (rows, channels, height, width), and the weights of convolutions
  /// with their channels last, which is how kernels for convolutions like them.
  bool channels_last = false;

  /// On the CPU: has freed memory kept for the next tensors, rather than given to the system and
  /// asked for in every update. The thread that makes the Accelerator keeps blocks of up to 512
  /// KiB, 64 MiB in all, by an allocator that LibTorch is given for the process unless it has one
  /// of the program's; the C library keeps larger ones. Left alone where the environment sets
  /// glibc's malloc up, and in a program's own communicator.
  bool keep_host_memory = true;

  /// On the CPU: in the training steps of a small network on rows of numbers, operations have one
  /// thread; several would take longer to begin than they help. See docs/performance.md.
  bool small_steps_on_one_thread = true;

  /// Late only in a Trainer, and where nothing that comes right after depends on it: optimizers
  /// that step through fused kernels, no MixedPrecision::kFp16, no NonFinite::kSkip, no
  /// deterministic shards, and not where ranks bring their own rows.
  Verdicts verdicts = Verdicts::kAuto;

  /// Records what a step asks of the device once for each shape of a batch, and then does only
  /// that: on a GPU by one call (CUDA graphs), on the CPU, in one process, kernel by kernel without
  /// all that leads to them. Steps that a Trainer's subclass overrides run only while they are
  /// recorded, `scheduler_step` excepted; events fire each time. For small models; see
  /// docs/performance.md for what can't be recorded.
  bool capture_graph = false;

  /// Lets several ranks of a host use one GPU; gradients are then added up in the host's memory.
  bool share_devices = false;

  /// Of gradients that are reduced in one piece.
  std::int64_t bucket_bytes = std::int64_t{25} << 20;
  Overlap overlap = Overlap::kAuto;
  GradientCompression gradient_compression = GradientCompression::kNone;
  UnusedParameters unused_parameters = UnusedParameters::kZero;

  /// How long a rank waits for others, and how long before the first update is done.
  std::chrono::milliseconds timeout{std::chrono::minutes(5)};
  std::chrono::milliseconds first_timeout{std::chrono::minutes(20)};
};

/// Owns where a training step runs: the device, the precision, and how gradients of micro-batches
/// become those of an update, on all ranks of a world. A Trainer uses one; a hand-written loop can
/// use it alone.
///
/// Called from one thread. With several ranks, what is marked collective is called by all of them
/// in the same order.
class Accelerator {
 public:
  /// @throws ArgumentError  a device that isn't there, with the ones that are.
  /// @throws StateError     as make_world: ranks were announced that MPI doesn't know of.
  explicit Accelerator(const AcceleratorOptions& options = {});

  /// @param world  such as `make_world(communicator)` makes of a program's own MPI communicator.
  explicit Accelerator(World world, const AcceleratorOptions& options = {});
  ~Accelerator();
  Accelerator(const Accelerator&) = delete;
  Accelerator& operator=(const Accelerator&) = delete;

  c10::Device device() const noexcept { return device_; }
  MixedPrecision mixed_precision() const noexcept { return options_.mixed_precision; }

  /// What was asked, with what it came to in the place of Overlap::kAuto.
  const AcceleratorOptions& options() const noexcept { return options_; }

  int rank() const noexcept { return world_.rank(); }
  int world_size() const noexcept { return world_.size(); }
  int local_rank() const noexcept { return world_.local_rank; }
  bool is_main_process() const noexcept { return rank() == 0; }
  bool is_local_main_process() const noexcept { return local_rank() == 0; }

  /// For a program's own exchanges; gradients go by another one.
  Communicator& communicator() noexcept { return *world_.control; }

  /// Operations between ranks for gradients so far.
  std::int64_t gradient_reductions() const noexcept { return world_.gradients->operations(); }

  /// How gradients are reduced, for the table of the run.
  std::string reduction_description() const;

  /// Moves a module's parameters and buffers to the device, in place, and gives all ranks those of
  /// rank 0. Collective.
  /// @param name  in messages, in front of the names of its parameters.
  /// @throws CommunicationError  on all ranks: they have other parameters or buffers; names the
  ///                             first that differs.
  void prepare(torch::nn::Module& module, const std::string& name = {});

  /// Chooses how `step` will step an optimizer whose parameters are on the device, until it is
  /// released: by fused kernels where there are some for its type, else by itself.
  void prepare(torch::optim::Optimizer& optimizer);

  /// Which of them it is, for the table of the run: "fused" or "plain".
  std::string step_description(const torch::optim::Optimizer& optimizer) const;

  /// How memory is laid out and kept, likewise.
  std::string memory_description() const;

  /// Gives the system what LibTorch's allocators keep for later, the host's and the device's.
  void free_memory();

  /// Whether the rows of forwards from now on count in SyncBatchNorm layers: not where they are
  /// another rank's, lent.
  void set_rows_count(bool count) noexcept;

  /// A loader whose batches arrive on the device; each rank reads its part of each batch. Fill in
  /// `window` where gradients are accumulated over several batches.
  std::unique_ptr<DataLoader> prepare(Dataset dataset, DataLoaderOptions options) const;

  /// The batch on the device, laid out as asked: itself where it is so already.
  Batch to_device(Batch batch) const;

  /// Autocast for a scope, as the precision asks; hold it around forward and loss.
  [[nodiscard]] Autocast autocast() const { return Autocast(device_.type(), mixed_precision()); }

  /// Adds the gradients of one micro-batch to those of its window. Collective in the run's first
  /// micro-batch.
  ///
  /// With `only_own_parameters` no gradient arises outside `optimizer`'s parameters, as several
  /// optimizers over one graph want it.
  /// @throws ArgumentError  a loss without a value or a graph, or a negative weight.
  void backward(const Mean& loss, torch::optim::Optimizer& optimizer,
                const WindowPosition& position = {}, bool only_own_parameters = false);

  /// What a rank does instead of `backward` where its part of a micro-batch has no rows.
  void skip_backward(torch::optim::Optimizer& optimizer, const WindowPosition& position);

  /// Whether `optimizer` has gradients of a window that no `step` has ended yet.
  bool has_open_window(const torch::optim::Optimizer& optimizer) const noexcept;

  /// Makes the gradients those of the window's mean loss, over all ranks; the first thing after the
  /// last backward. Collective, as `step` is where it has to reduce first.
  /// @param may_be_late  Lets it return without waiting for the device, with Gradients::kUndecided;
  ///                     the verdict is then to be taken later, in the order of these calls.
  Gradients reduce_gradients(torch::optim::Optimizer& optimizer, bool may_be_late = false);

  /// Of an undecided window: keeps it from the weights also where `norm`, a scalar tensor on the
  /// device, isn't finite.
  void require_finite(const torch::optim::Optimizer& optimizer, const torch::Tensor& norm);

  /// AcceleratorOptions::verdicts from the next update on; the same on all ranks. For a program
  /// that goes by each update's loss as soon as it has ended.
  void set_verdicts(Verdicts verdicts) noexcept { options_.verdicts = verdicts; }

  /// The oldest verdict that is late; waits for it. Triggers are then those of its update.
  /// @throws StateError  there is none.
  Verdict take_verdict();

  /// What scales `optimizer`'s gradients while a window adds them up, and how they lie in buckets,
  /// for a checkpoint: both decide how they are rounded. Empty before it is known; the same on all
  /// ranks.
  State window_state(const torch::optim::Optimizer& optimizer) const;
  void load_window_state(const torch::optim::Optimizer& optimizer, const State& state);

  /// Asks all ranks for something; they hear of it in the next reduction of gradients. Callable
  /// from any thread. `withdraw` takes it back.
  void set_trigger(Trigger trigger) noexcept;
  void withdraw_trigger(Trigger trigger) noexcept;

  /// Whether any rank had asked by the last reduction: the same on all ranks.
  bool is_triggered(Trigger trigger) const noexcept;

  /// The same, and forgets it, on this rank too: what was asked is about to be done. To be called
  /// on all ranks.
  bool take_trigger(Trigger trigger) noexcept;

  /// Tells and hears of triggers without gradients. Collective.
  void exchange_triggers();

  /// The ranks whose loss was not finite in the last reduction.
  std::vector<int> ranks_not_finite() const;

  /// The mean loss of the window whose gradients have just been reduced, if they aren't undecided.
  double window_loss(const torch::optim::Optimizer& optimizer) const noexcept;

  /// What `optimizer`'s losses are multiplied by in their backward; 1 but with
  /// MixedPrecision::kFp16. Waits for the device.
  double loss_scale(const torch::optim::Optimizer& optimizer) const;

  /// The total 2-norm of the gradients, a scalar tensor on the device.
  torch::Tensor gradient_norm(torch::optim::Optimizer& optimizer) const;

  /// Scales the gradients so that their total 2-norm is at most `max_norm`, if it is finite.
  /// @return the norm before, a scalar tensor on the device.
  /// @par Source  Pascanu et al. 2013 (arXiv:1211.5063), section 3.2.
  torch::Tensor clip_gradient_norm(torch::optim::Optimizer& optimizer, double max_norm) const;

  /// Clamps each gradient to [-max_value, max_value].
  void clip_gradient_value(torch::optim::Optimizer& optimizer, double max_value) const;

  /// Ends the window with an optimizer step, if its gradients are ready; reduces them before where
  /// that hasn't been done.
  /// @return whether the optimizer stepped; true where that is undecided.
  bool step(torch::optim::Optimizer& optimizer);

  /// Ends the window of an optimizer that stepped by itself; nothing where `step` has ended it.
  void end_window(const torch::optim::Optimizer& optimizer);

  /// Ends the window without a step and zeroes what has been accumulated.
  void discard(torch::optim::Optimizer& optimizer);

  /// Forgets `optimizer`; it may be destroyed after that. Gradients stay as they are.
  void release(const torch::optim::Optimizer& optimizer) noexcept;

  /// The rows of all ranks' `tensor`s, in rank order; ranks may have any number of rows, also none.
  /// Collective, as what follows.
  /// @param tensor  (rows, ...), the same dtype and other dimensions on all ranks.
  torch::Tensor gather(const torch::Tensor& tensor);

  /// The same where other dimensions differ too: they are filled up with `padding` at their ends.
  torch::Tensor gather(const torch::Tensor& tensor, double padding);

  /// The `bytes` of each rank, in rank order: for objects that the program writes as bytes.
  std::vector<std::string> gather_objects(const std::string& bytes);

  /// The sum of all ranks' `tensor`s.
  torch::Tensor reduce(const torch::Tensor& tensor);

  /// Rank `root`'s `tensor`; shapes and dtypes are the same on all ranks.
  torch::Tensor broadcast(const torch::Tensor& tensor, int root = 0);

  /// Whether `mine` holds on any rank.
  bool any(bool mine);

  void barrier();

  /// Runs `body` on the main process first, then on all others: such as to download data once.
  void main_process_first(const std::function<void()>& body);

  /// Runs `body`, after which either all ranks go on or all throw.
  /// @throws Error  what `body` threw; on ranks where it didn't, an error that tells which rank it
  ///                was and why.
  void together(const std::string& call, const std::function<void()>& body);

  /// Tells the other ranks that this one goes no further; see World::abort. Not collective.
  void abort(const std::string& line, ExitCode exit_code) noexcept;

  /// Releases what the ranks hold together; the last thing that is done with an Accelerator of a
  /// program's own communicator. Nothing for one process.
  void close();

  /// Writes one line to stdout, from the main process only.
  void print(std::string_view line) const;

 private:
  friend class Trainer;  // of whose steps it has to know all that the host does

  struct Reduction;
  struct Slot;  // of one optimizer

  // Runs `step` of `owner`, all that a micro-batch at `position` has the device do, on `batch`.
  // With AcceleratorOptions::capture_graph, and where it `may_capture`, what it asks of the device
  // is recorded when it comes the second time, and replayed in its place for batches of the same
  // shape; the output's `outputs` are then written over by the next replay. Collective at a
  // window's end.
  using CapturedStep = std::function<StepOutput(const Batch&)>;
  StepOutput captured(const void* owner, const Batch& batch, const WindowPosition& position,
                      bool may_capture, const CapturedStep& step);

  // Within `captured`: runs `work` of the host, or at each replay where the step is recorded.
  template <class Work>
  void on_host(Work&& work) {
    if (is_recording_) [[unlikely]] {
      leave_to_replay(std::forward<Work>(work));
    } else {
      work();
    }
  }

  void check_graphs() const;
  std::vector<std::uint64_t> fixed_in_graphs() const;
  std::string graph_key(const void* owner, const Batch& batch,
                        const WindowPosition& position) const;
  std::int64_t agree_on_graph(bool ends_window, std::int64_t graph);
  const char* reason_not_recorded() const;
  void note_plain_step(const std::string& key, bool ends_window);
  std::shared_ptr<RecordedStep> record(const Batch& batch, const WindowPosition& position,
                                       const CapturedStep& step);
  std::shared_ptr<RecordedStep> prove(RecordedStep& recorded, const Batch& batch,
                                      const WindowPosition& position, const CapturedStep& step);
  void keep_gradients(bool ends_window);
  void leave_to_replay(std::function<void()> work);
  void forget_graphs() noexcept;

  void choose_communicators();
  Slot& slot_of(const torch::optim::Optimizer& optimizer);
  void begin_window(Slot& slot, torch::optim::Optimizer& optimizer, bool is_shard);
  void begin_foreign_window(Slot& slot, torch::optim::Optimizer& optimizer);
  bool can_be_late(const Slot& slot) const noexcept;
  Gradients reduce_late(Slot& slot, const torch::optim::Optimizer& optimizer);
  torch::Tensor status_on_device(const Slot& slot);
  static torch::Tensor word_of(const Slot& slot);
  bool step_undecided(Slot& slot, torch::optim::Optimizer& optimizer);
  bool record_step(Slot& slot, torch::optim::Optimizer& optimizer);
  void send_verdict(Slot& slot, const torch::optim::Optimizer& optimizer);
  void end_first_update();

  World world_;
  AcceleratorOptions options_;
  c10::Device device_;
  bool keeps_host_memory_ = false;
  bool is_recording_ = false;
  std::unique_ptr<Reduction> reduction_;
};

}  // namespace torch_accelerated
