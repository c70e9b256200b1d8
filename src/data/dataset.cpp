// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/data/dataset.h"

#include <torch/torch.h>

#include <limits>

#include "base/text.h"
#include "data/gathered_rows.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/data/permutation.h"

namespace torch_accelerated {
namespace {

/// The rows of tensors that are in memory.
class TensorRows : public detail::DatasetReader {
 public:
  explicit TensorRows(const Batch& rows) : size_(checked_size(rows)), rows_(rows.detach()) {}

  std::int64_t size() const override { return size_; }

  Batch get_batch(std::span<const std::int64_t> indices, const SampleContext&) const override {
    Batch batch = rows_;
    for (const auto& [name, value] : rows_) batch.set(name, gathered_rows(value, indices));
    return batch;
  }

 private:
  static std::int64_t checked_size(const Batch& rows) {
    OptionCheck check("Dataset");
    check.require(!rows.empty(), "the batch has no tensor; give at least one, such as \"data\"");
    std::int64_t size = 0;
    bool sized = false;
    for (const auto& [name, value] : rows) {
      if (!value.defined() || value.dim() == 0) {
        check.require(
            false, concat("'", name, "' is ", value.defined() ? "a scalar" : "an undefined tensor",
                          "; its first dimension has to be the samples'"));
      } else if (!sized) {
        size = value.size(0);
        sized = true;
      } else {
        check.require(value.size(0) == size, concat("'", name, "' has ", value.size(0),
                                                    " rows where those before it have ", size,
                                                    "; all tensors need one row for each sample"));
      }
    }
    check.throw_if_any();
    return size;
  }

  std::int64_t size_;
  Batch rows_;
};

void check_indices(const char* call, std::span<const std::int64_t> indices, std::int64_t size) {
  for (std::size_t place = 0; place < indices.size(); ++place) {
    const std::int64_t index = indices[place];
    if (index >= 0 && index < size) continue;
    throw ArgumentError(concat(call, ": index ", index, " (at place ", place, " of ",
                               indices.size(), ") is not in [0, ", size,
                               "), the samples of this dataset"));
  }
}

/// Some of the samples of another dataset.
class Subset : public detail::DatasetReader {
 public:
  Subset(Dataset dataset, std::shared_ptr<const std::vector<std::int64_t>> indices)
      : dataset_(std::move(dataset)), indices_(std::move(indices)) {}

  std::int64_t size() const override { return static_cast<std::int64_t>(indices_->size()); }

  Batch get_batch(std::span<const std::int64_t> indices,
                  const SampleContext& context) const override {
    std::vector<std::int64_t> outer;
    outer.reserve(indices.size());
    for (const std::int64_t index : indices) {
      outer.push_back((*indices_)[static_cast<std::size_t>(index)]);
    }
    return dataset_.get_batch(outer, context);
  }

  std::shared_ptr<const DatasetReader> worker_copy() const override {
    return std::make_shared<const Subset>(dataset_.worker_copy(), indices_);
  }

 private:
  Dataset dataset_;
  std::shared_ptr<const std::vector<std::int64_t>> indices_;
};

}  // namespace

Dataset::Dataset(Batch rows) : reader_(std::make_shared<const TensorRows>(rows)) {}

std::int64_t Dataset::size() const {
  if (reader_) return reader_->size();
  throw StateError("Dataset: this handle holds no dataset; make it of a Batch or of a reader");
}

Batch Dataset::get_batch(std::span<const std::int64_t> indices,
                         const SampleContext& context) const {
  check_indices("Dataset::get_batch", indices, size());
  Batch batch = reader_->get_batch(indices, context);
  const std::int64_t rows = batch.rows();
  if (rows == static_cast<std::int64_t>(indices.size())) return batch;
  throw DataError(concat("Dataset::get_batch: asked for ", indices.size(), " samples, got ", rows,
                         " rows (", batch.describe(),
                         "); the first tensor of a batch has one row for each sample"));
}

Dataset Dataset::worker_copy() const {
  if (!reader_) return {};
  auto copy = reader_->worker_copy();
  return copy ? Dataset(std::move(copy)) : *this;
}

Dataset subset(Dataset dataset, std::vector<std::int64_t> indices) {
  check_indices("subset", indices, dataset.size());
  return Dataset(std::make_shared<const Subset>(
      std::move(dataset), std::make_shared<const std::vector<std::int64_t>>(std::move(indices))));
}

std::vector<Dataset> random_split(const Dataset& dataset, const std::vector<std::int64_t>& sizes,
                                  std::uint64_t seed) {
  const std::int64_t size = dataset.size();
  OptionCheck check("random_split");
  std::int64_t left = size;
  bool fits = true;
  for (const std::int64_t part : sizes) {
    check.require(part >= 0, concat("a part's size must be >= 0, got ", part));
    fits = fits && part <= left;
    left -= fits && part >= 0 ? part : 0;
  }
  check.require(fits && left == 0,
                concat("the sizes must add up to the dataset's ", size, " samples, ",
                       fits ? concat("they leave ", left) : "they exceed them"));
  check.throw_if_any();

  // An epoch that no run reaches, so that the parts have nothing in common with an epoch's order.
  constexpr std::int64_t epoch = std::numeric_limits<std::int64_t>::max();
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  if (size > 0) {
    const KeyedPermutation permutation(size, seed, epoch);
    for (std::int64_t i = 0; i < size; ++i) order[static_cast<std::size_t>(i)] = permutation(i);
  }
  std::vector<Dataset> parts;
  auto begin = order.begin();
  for (const std::int64_t part : sizes) {
    parts.push_back(subset(dataset, {begin, begin + part}));
    begin += part;
  }
  return parts;
}

}  // namespace torch_accelerated
