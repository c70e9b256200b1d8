// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "torch_accelerated/core/tensor_dict.h"
#include "torch_accelerated/data/dataset.h"
#include "torch_accelerated/data/sample_context.h"

namespace torch_accelerated {

/// One sample's tensors by name, without a dimension for rows.
using Sample = TensorDict;

/// Makes a batch of samples.
using Collate = std::function<Batch(std::vector<Sample>)>;

/// Stacks each field of the samples along a new first dimension.
/// @throws DataError  samples that differ in names, shapes, dtypes or devices; names the field.
Batch stack(std::vector<Sample> samples);

namespace detail {

inline Sample as_sample(Sample sample) { return sample; }

/// A tensor alone is called "data".
template <std::same_as<torch::Tensor> T>
Sample as_sample(T data) {
  Sample sample;
  sample.set("data", std::move(data));
  return sample;
}

/// A torch::data::Example: "data" and, where it has one, "target".
template <class Example>
  requires requires(Example& example) {
    { example.data } -> std::same_as<torch::Tensor&>;
  }
Sample as_sample(Example example) {
  Sample sample;
  sample.set("data", std::move(example.data));
  if constexpr (requires { example.target; }) sample.set("target", std::move(example.target));
  return sample;
}

template <class T>
concept ReadsByContext =
    requires(const T& samples, std::int64_t index, const SampleContext& context) {
      as_sample(samples.get(index, context));
    };

template <class T>
concept ReadsByIndexAlone =
    requires(const T& samples, std::int64_t index) { as_sample(samples.get(index)); };

template <class T>
concept Sized = requires(const T& samples) {
  { samples.size() } -> std::convertible_to<std::int64_t>;
};

/// Single samples by index.
class SampleReader {
 public:
  virtual ~SampleReader() = default;
  virtual std::int64_t size() const = 0;
  virtual Sample get(std::int64_t index, const SampleContext& context) const = 0;
};

template <class T>
class SamplesOf : public SampleReader {
 public:
  explicit SamplesOf(T samples) : samples_(std::move(samples)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(samples_.size()); }
  Sample get(std::int64_t index, const SampleContext& context) const override {
    if constexpr (ReadsByContext<T>) {
      return as_sample(samples_.get(index, context));
    } else {
      return as_sample(samples_.get(index));
    }
  }

 private:
  T samples_;
};

/// @param collate  empty for stacking, whose errors then name the sample's index.
Dataset per_sample(std::unique_ptr<const SampleReader> samples, Collate collate);

/// Stacks samples that stand at `indices` of their dataset.
Batch stack_at(const std::vector<Sample>& samples, std::span<const std::int64_t> indices);

}  // namespace detail

/// A dataset of single samples: any T with `size() const` and `get(std::int64_t index) const` or
/// `get(std::int64_t index, const SampleContext&) const`, which may be called from several threads
/// at once and returns a TensorDict, a Tensor (it is called "data") or a torch::data::Example.
///
/// What reading a sample throws reaches the caller as a DataError that names the sample's index,
/// with the original nested in it.
/// @param collate  called from several threads at once; by default samples are stacked field by
///                 field, and those whose names, shapes, dtypes or devices disagree are refused.
template <class T>
Dataset per_sample(T samples, Collate collate = nullptr) {
  constexpr bool fits =
      detail::Sized<T> && (detail::ReadsByContext<T> || detail::ReadsByIndexAlone<T>);
  static_assert(fits,
                "per_sample(samples) wants a type with size() const and get(std::int64_t) const or "
                "get(std::int64_t, const SampleContext&) const that returns a TensorDict, a Tensor "
                "or a torch::data::Example; for a dataset of torch::data use torch_dataset()");
  if constexpr (fits) {
    return detail::per_sample(std::make_unique<const detail::SamplesOf<T>>(std::move(samples)),
                              std::move(collate));
  }
}

}  // namespace torch_accelerated
