// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/data/datasets/base.h>
#include <torch/data/example.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "torch_accelerated/base/error.h"
#include "torch_accelerated/data/dataset.h"
#include "torch_accelerated/data/per_sample.h"

namespace torch_accelerated {

namespace detail {

template <class T>
concept TorchDataset = requires(T& dataset, typename T::BatchRequestType request) {
  { dataset.get_batch(request) } -> std::same_as<typename T::BatchType>;
  { T::is_stateful } -> std::convertible_to<bool>;
};

template <class T>
concept ReadsByTorchIndices =
    std::same_as<typename T::BatchRequestType, c10::ArrayRef<std::size_t>>;

inline Batch as_batch(Batch batch, std::span<const std::int64_t>) { return batch; }

/// Single samples, to be stacked.
template <class T>
  requires requires(T sample) { as_sample(std::move(sample)); }
Batch as_batch(std::vector<T> samples, std::span<const std::int64_t> indices) {
  std::vector<Sample> named;
  named.reserve(samples.size());
  for (T& sample : samples) named.push_back(as_sample(std::move(sample)));
  return stack_at(named, indices);
}

/// An example that a collation such as torch::data::transforms::Stack has made of a whole batch.
template <class T>
  requires(!std::same_as<T, Batch>) && requires(T sample) { as_sample(std::move(sample)); }
Batch as_batch(T batch, std::span<const std::int64_t>) {
  return as_sample(std::move(batch));
}

template <class T>
concept TorchBatch = requires(T batch, std::span<const std::int64_t> indices) {
  { as_batch(std::move(batch), indices) } -> std::same_as<Batch>;
};

/// What torch_dataset() takes: stateless, asked for indices, with batches that can be converted.
template <class T>
concept AdaptableTorchDataset = TorchDataset<T> && !T::is_stateful && ReadsByTorchIndices<T> &&
                                TorchBatch<typename T::BatchType>;

/// get_batch() of torch::data isn't const: each thread gets a copy, as in LibTorch's own loader,
/// and threads that share one take turns.
template <class T>
class TorchReader : public DatasetReader {
 public:
  TorchReader(T dataset, std::int64_t size) : dataset_(std::move(dataset)), size_(size) {}

  std::int64_t size() const override { return size_; }

  Batch get_batch(std::span<const std::int64_t> indices, const SampleContext&) const override {
    const ReadScope scope;
    const std::vector<std::size_t> request(indices.begin(), indices.end());
    return as_batch(read(request), indices);
  }

  std::shared_ptr<const DatasetReader> worker_copy() const override {
    if constexpr (std::copy_constructible<T>) {
      const std::lock_guard lock(mutex_);
      return std::make_shared<const TorchReader>(dataset_, size_);
    } else {
      return nullptr;
    }
  }

 private:
  typename T::BatchType read(const std::vector<std::size_t>& request) const {
    const std::lock_guard lock(mutex_);
    return dataset_.get_batch(request);
  }

  mutable std::mutex mutex_;
  mutable T dataset_;
  std::int64_t size_;
};

}  // namespace detail

/// A dataset of torch::data that is stateless and sized, mapped or not: Example<> becomes "data"
/// and "target", TensorExample becomes "data"; samples that no collation has stacked are stacked.
/// Each worker thread reads a copy of its own, as in LibTorch's loader.
/// @throws ArgumentError  a dataset that doesn't know its size.
template <detail::TorchDataset T>
Dataset torch_dataset(T dataset) {
  static_assert(!T::is_stateful,
                "a stateful dataset of torch::data hands out its samples as a stream: it can't be "
                "read by index, shuffled or resumed. Derive a source from "
                "torch_accelerated::BatchSource whose start_epoch() calls the dataset's reset() "
                "and whose next() calls its get_batch(), and train on that");
  static_assert(T::is_stateful || detail::ReadsByTorchIndices<T>,
                "this dataset of torch::data is asked for a number of samples and not for indices: "
                "derive a source from torch_accelerated::BatchSource whose next() calls the "
                "dataset's get_batch(), and train on that");
  static_assert(T::is_stateful || detail::TorchBatch<typename T::BatchType>,
                "this dataset's batches are neither torch::data::Example of tensors (or a vector "
                "of them), nor Tensor, nor TensorDict: map() it to one of these");
  if constexpr (detail::AdaptableTorchDataset<T>) {
    const auto size = dataset.size();
    if (!size || *size > static_cast<std::size_t>(std::numeric_limits<std::int64_t>::max())) {
      throw ArgumentError(
          "torch_dataset: the dataset doesn't know its size; give it a size(), or derive a source "
          "from torch_accelerated::BatchSource whose next() calls its get_batch()");
    }
    return Dataset(std::make_shared<const detail::TorchReader<T>>(
        std::move(dataset), static_cast<std::int64_t>(*size)));
  }
}

}  // namespace torch_accelerated
