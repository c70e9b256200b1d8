// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/data/per_sample.h"

#include <torch/torch.h>

#include <exception>
#include <string>

#include "base/text.h"
#include "data/current_exception.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

/// Reads the samples of a batch one by one and makes the batch of them.
class PerSample : public detail::DatasetReader {
 public:
  PerSample(std::unique_ptr<const detail::SampleReader> samples, Collate collate)
      : samples_(std::move(samples)), collate_(std::move(collate)) {}

  std::int64_t size() const override { return samples_->size(); }

  Batch get_batch(std::span<const std::int64_t> indices,
                  const SampleContext& context) const override {
    const detail::ReadScope scope;
    std::vector<Sample> samples;
    samples.reserve(indices.size());
    for (const std::int64_t index : indices) samples.push_back(read(index, context));
    return collate_ ? collate_(std::move(samples)) : detail::stack_at(samples, indices);
  }

 private:
  Sample read(std::int64_t index, const SampleContext& context) const {
    try {
      return samples_->get(index, context);
    } catch (...) {
      std::throw_with_nested(DataError(
          concat("sample ", index, " of ", samples_->size(), ": ", current_exception_text())));
    }
  }

  std::unique_ptr<const detail::SampleReader> samples_;
  Collate collate_;
};

std::string shape_of(const torch::Tensor& value) {
  return value.defined() ? concat(value.dtype(), " ", value.sizes(), " on ", value.device())
                         : "an undefined tensor";
}

bool stackable(const torch::Tensor& one, const torch::Tensor& other) {
  return one.defined() && other.defined() && one.sizes() == other.sizes() &&
         one.scalar_type() == other.scalar_type() && one.device() == other.device();
}

// How messages call a sample: by its index where that is known, else by its place in the batch.
std::string name_of(std::size_t place, std::span<const std::int64_t> indices) {
  return indices.empty() ? concat("sample ", place, " of the batch")
                         : concat("sample ", indices[place]);
}

void check_names(const std::vector<Sample>& samples, std::span<const std::int64_t> indices) {
  const Sample& first = samples.front();
  for (std::size_t place = 1; place < samples.size(); ++place) {
    const Sample& sample = samples[place];
    bool same = sample.size() == first.size();
    for (const auto& [name, value] : first) same = same && sample.contains(name);
    if (same) continue;
    throw DataError(concat("stack: ", name_of(place, indices), " has the fields (",
                           sample.describe(), "), ", name_of(0, indices), " has (",
                           first.describe(), "); all samples of a dataset need the same names"));
  }
}

}  // namespace

namespace detail {

Batch stack_at(const std::vector<Sample>& samples, std::span<const std::int64_t> indices) {
  Batch batch;
  if (samples.empty()) return batch;
  check_names(samples, indices);
  std::vector<torch::Tensor> column(samples.size());
  for (const auto& [name, first] : samples.front()) {
    for (std::size_t place = 0; place < samples.size(); ++place) {
      column[place] = samples[place][name];
      if (stackable(first, column[place])) continue;
      throw DataError(concat("stack: field '", name, "' of ", name_of(place, indices), " is ",
                             shape_of(column[place]), ", that of ", name_of(0, indices), " is ",
                             shape_of(first),
                             "; make the samples alike, or give per_sample a collate function"));
    }
    batch.set(name, torch::stack(column));
  }
  return batch;
}

Dataset per_sample(std::unique_ptr<const SampleReader> samples, Collate collate) {
  return Dataset(std::make_shared<const PerSample>(std::move(samples), std::move(collate)));
}

}  // namespace detail

Batch stack(std::vector<Sample> samples) { return detail::stack_at(samples, {}); }

}  // namespace torch_accelerated
