// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "torch_accelerated/core/tensor_dict.h"
#include "torch_accelerated/data/sample_context.h"

namespace torch_accelerated {

namespace detail {

template <class T>
concept RowReader =
    requires(const T& reader, std::span<const std::int64_t> indices, const SampleContext& context) {
      { reader.size() } -> std::convertible_to<std::int64_t>;
      { reader.get_batch(indices, context) } -> std::same_as<Batch>;
    };

/// What a Dataset handle holds. `worker_copy` gives a reader for one more thread.
class DatasetReader {
 public:
  virtual ~DatasetReader() = default;
  virtual std::int64_t size() const = 0;
  virtual Batch get_batch(std::span<const std::int64_t> indices,
                          const SampleContext& context) const = 0;

  /// Nothing where the reader itself may be called from several threads at once.
  virtual std::shared_ptr<const DatasetReader> worker_copy() const { return nullptr; }
};

/// While it lives, this thread records no gradients, and an operation of LibTorch's stays in it: a
/// sample's bits then depend neither on the number of cores nor on the thread that reads it.
class ReadScope {
 public:
  ReadScope();
  ~ReadScope();
  ReadScope(const ReadScope&) = delete;
  ReadScope& operator=(const ReadScope&) = delete;

 private:
  int intra_op_threads_;
  bool records_gradients_;
};

}  // namespace detail

/// A handle to samples that can be read by index, a whole batch at a time. Copies share the
/// samples.
///
/// Made of a Batch's rows, or of any T with `size() const` and
/// `get_batch(std::span<const int64_t>, const SampleContext&) const -> Batch`, which may be called
/// from several threads at once and gives as many rows as it is asked for indices. Samples are read
/// without recording gradients and on one thread a call. A torch::data dataset fits through
/// <torch_accelerated/data/ torch_dataset.h>, a dataset of single samples through
/// <torch_accelerated/data/per_sample.h>.
class Dataset {
 public:
  /// No dataset; `if (dataset)` is false.
  Dataset() = default;

  /// The rows of `rows`, whose tensors agree in their first dimension.
  /// @throws ArgumentError  no tensor at all, one without a first dimension, or one with another
  ///                        number of rows (by name).
  Dataset(Batch rows);  // NOLINT(google-explicit-constructor)

  template <class T>
    requires(detail::RowReader<T> && !std::same_as<T, Dataset>)
  Dataset(T reader)  // NOLINT(google-explicit-constructor)
      : Dataset(std::make_shared<const Adapter<T>>(std::move(reader))) {}

  explicit Dataset(std::shared_ptr<const detail::DatasetReader> reader)
      : reader_(std::move(reader)) {}

  explicit operator bool() const noexcept { return reader_ != nullptr; }

  /// @throws StateError  this handle holds no dataset.
  std::int64_t size() const;

  /// The samples at `indices`, each in [0, size()), in that order, in memory of their own.
  /// @throws ArgumentError  an index out of range; what the samples' own code throws passes.
  /// @throws DataError      the samples' own code gave another number of rows.
  Batch get_batch(std::span<const std::int64_t> indices, const SampleContext& context = {}) const;

  /// A handle that one more thread may read while others read theirs.
  Dataset worker_copy() const;

 private:
  template <class T>
  class Adapter : public detail::DatasetReader {
   public:
    explicit Adapter(T reader) : reader_(std::move(reader)) {}
    std::int64_t size() const override { return reader_.size(); }
    Batch get_batch(std::span<const std::int64_t> indices,
                    const SampleContext& context) const override {
      const detail::ReadScope scope;
      return reader_.get_batch(indices, context);
    }

   private:
    T reader_;
  };

  std::shared_ptr<const detail::DatasetReader> reader_;
};

/// The samples of `dataset` at `indices`, in that order.
/// @throws ArgumentError  an index out of range.
Dataset subset(Dataset dataset, std::vector<std::int64_t> indices);

/// Cuts `dataset` at random into parts of `sizes` samples, without overlap; a pure function of the
/// sizes and the seed.
/// @throws ArgumentError  a negative size, or sizes that don't add up to dataset.size().
std::vector<Dataset> random_split(const Dataset& dataset, const std::vector<std::int64_t>& sizes,
                                  std::uint64_t seed = 0);

}  // namespace torch_accelerated
