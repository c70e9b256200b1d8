// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/data/data_loader.h"

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include "base/text.h"
#include "data/batch_plan.h"
#include "data/current_exception.h"
#include "data/device_copy.h"
#include "data/epoch_order.h"
#include "data/loader_options.h"
#include "data/read_ahead.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

/// Reads the batches of a plan; each thread has one of its own.
class BatchReader {
 public:
  BatchReader(Dataset dataset, const BatchPlan& plan, const DataLoaderOptions& options,
              bool in_worker)
      : dataset_(std::move(dataset)),
        plan_(&plan),
        order_(dataset_.size(), options.seed, options.shuffle),
        seed_(options.seed),
        borrow_row_(options.borrow_row),
        device_(options.device),
        in_worker_(in_worker) {}

  Batch operator()(std::int64_t epoch, std::int64_t batch) {
    // A worker is one thread: its gathers don't start others either.
    std::optional<detail::ReadScope> scope;
    if (in_worker_) scope.emplace();
    auto [first, count] = plan_->rows_of(batch);
    if (count == 0 && !borrow_row_) return {};
    if (count == 0) {
      first = plan_->first_of_all_ranks(batch);
      count = 1;
    }
    indices_.resize(static_cast<std::size_t>(count));
    order_.read(epoch, first, indices_);
    try {
      Batch read = dataset_.get_batch(indices_, SampleContext{seed_, epoch});
      if (in_worker_) DeviceCopy::wait_for(read);
      return DeviceCopy::pinned(std::move(read), device_);
    } catch (...) {
      std::throw_with_nested(DataError(
          concat("DataLoader: reading batch ", batch, " of epoch ", epoch, " (", indices_.size(),
                 " samples, the first ", indices_.front(), ", the last ", indices_.back(),
                 "): ", current_exception_text(), "; next() tries again, set_position(", epoch,
                 ", ", batch + 1, ") leaves the batch out")));
    }
  }

 private:
  Dataset dataset_;
  const BatchPlan* plan_;
  EpochOrder order_;
  std::uint64_t seed_;
  bool borrow_row_;
  c10::Device device_;
  bool in_worker_;
  std::vector<std::int64_t> indices_;
};

}  // namespace

class DataLoader::Impl {
 public:
  Impl(Dataset dataset, const DataLoaderOptions& options)
      : dataset_(std::move(dataset)),
        samples_(dataset_.size()),
        options_(resolved(options, samples_)),
        plan_(samples_, options_),
        reader_(dataset_, plan_, options_, /*in_worker=*/false) {
    if (!options_.device.is_cpu()) copy_.emplace(options_.device);
  }

  std::optional<Batch> next() {
    if (position_ == plan_.batches()) return std::nullopt;
    try {
      std::optional<Batch> batch = copy_ ? next_on_device() : read();
      ++position_;
      return batch;
    } catch (...) {
      go_to(epoch_, position_);  // the next call tries again, for any number of workers alike
      throw;
    }
  }

  void go_to(std::int64_t epoch, std::int64_t batches) {
    epoch_ = epoch;
    position_ = reading_ = batches;
    workers_know_ = false;
    error_ = nullptr;
    if (copy_) copy_->cancel();
  }

  void set_window(std::int64_t batches) {
    if (batches == options_.window) return;
    workers_.reset();  // they read by the plan
    options_.window = batches;
    plan_ = BatchPlan(samples_, options_);
    go_to(epoch_, position_);
  }

  const DataLoaderOptions& options() const noexcept { return options_; }
  const BatchPlan& plan() const noexcept { return plan_; }
  std::int64_t samples() const noexcept { return samples_; }
  std::int64_t epoch() const noexcept { return epoch_; }
  std::int64_t position() const noexcept { return position_; }

 private:
  // The batch at `reading_`, in this thread or from the workers.
  Batch read() {
    if (options_.num_workers > 0) tell_workers();
    Batch batch = options_.num_workers > 0 ? workers_->next() : reader_(epoch_, reading_);
    ++reading_;
    return batch;
  }

  // The workers start at the first batch that is wanted, so that a position can be set before.
  void tell_workers() {
    if (!workers_) make_workers();
    if (!workers_know_) workers_->start(epoch_, reading_, plan_.batches());
    workers_know_ = true;
  }

  void make_workers() {
    const std::int64_t most = plan_.batches();
    const std::int64_t count = std::min<std::int64_t>(options_.num_workers, most);
    const std::int64_t each = std::min(options_.prefetch_batches, most);
    std::vector<ReadAhead::Read> readers;
    readers.reserve(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      readers.emplace_back(
          BatchReader(dataset_.worker_copy(), plan_, options_, /*in_worker=*/true));
    }
    workers_.emplace(std::move(readers), each > most / count ? most : count * each);
  }

  // Hands out the batch whose copy is under way, and begins the next one's.
  Batch next_on_device() {
    if (error_) std::rethrow_exception(error_);
    if (!copy_->under_way()) copy_->begin(read());
    Batch batch = copy_->finish();
    const bool at_hand = options_.num_workers == 0 || workers_->ready();
    if (reading_ < plan_.batches() && at_hand) {
      try {
        copy_->begin(read());
      } catch (...) {
        error_ = std::current_exception();  // told when it is that batch's turn
      }
    }
    return batch;
  }

  Dataset dataset_;
  std::int64_t samples_;
  DataLoaderOptions options_;
  BatchPlan plan_;
  BatchReader reader_;
  std::int64_t epoch_ = 0;
  std::int64_t position_ = 0;  // batches that the caller has got
  std::int64_t reading_ = 0;   // the next batch to read: position_, or one more on a device
  bool workers_know_ = false;  // whether the workers read for the present epoch and position
  std::optional<DeviceCopy> copy_;
  std::exception_ptr error_;          // from reading the batch at `reading_` ahead of its turn
  std::optional<ReadAhead> workers_;  // last, so that its threads end first
};

DataLoader::DataLoader(Dataset dataset, DataLoaderOptions options)
    : impl_(std::make_unique<Impl>(std::move(dataset), options)) {}

DataLoader::~DataLoader() = default;

std::optional<Batch> DataLoader::next() { return impl_->next(); }

std::optional<std::int64_t> DataLoader::size() const { return impl_->plan().batches(); }

void DataLoader::start_epoch(std::int64_t epoch) { set_position(epoch, 0); }

void DataLoader::set_window(std::int64_t batches) {
  if (batches < 1) {
    throw ArgumentError(concat("DataLoader: window must be >= 1 batch, got ", batches));
  }
  impl_->set_window(batches);
}

std::optional<std::int64_t> DataLoader::rows_of(std::int64_t first, std::int64_t count) const {
  return impl_->plan().rows_of_all_ranks(first, count);
}

bool DataLoader::is_borrowed() const {
  const auto given = impl_->position();
  return impl_->options().borrow_row && given > 0 && impl_->plan().rows_of(given - 1).count == 0;
}

std::int64_t DataLoader::epoch() const noexcept { return impl_->epoch(); }

std::int64_t DataLoader::position() const noexcept { return impl_->position(); }

bool DataLoader::set_position(std::int64_t epoch, std::int64_t batches) {
  OptionCheck check("DataLoader::set_position");
  check.require(epoch >= 0, concat("epoch must be >= 0, got ", epoch));
  check.require(batches >= 0 && batches <= impl_->plan().batches(),
                concat("batches must be in [0, ", impl_->plan().batches(), "], got ", batches,
                       "; the position was of another dataset or batch size"));
  check.throw_if_any();
  impl_->go_to(epoch, batches);
  return true;
}

std::int64_t DataLoader::samples() const noexcept { return impl_->samples(); }

const DataLoaderOptions& DataLoader::options() const noexcept { return impl_->options(); }

}  // namespace torch_accelerated
