// SPDX-License-Identifier: Apache-2.0
#include "accelerator/gradient_buckets.h"

namespace torch_accelerated {
namespace {

constexpr std::int64_t kAlignment = 64;  // bytes: where a parameter's gradient begins

// As the parameter's own, where these leave no holes: sums of equal layouts are fastest.
std::vector<std::int64_t> strides_of(const torch::Tensor& parameter) {
  if (parameter.is_non_overlapping_and_dense()) return parameter.strides().vec();
  std::vector<std::int64_t> strides(static_cast<std::size_t>(parameter.dim()), 1);
  for (auto i = strides.size(); i > 1; --i) {
    strides[i - 2] = strides[i - 1] * parameter.size(static_cast<std::int64_t>(i) - 1);
  }
  return strides;
}

// A view that autograd doesn't know as one: it may be detached and stepped on in place.
torch::Tensor unrelated_view(const torch::Tensor& flat, std::int64_t offset,
                             const torch::Tensor& parameter) {
  return torch::empty({0}, flat.options())
      .set_(flat.storage(), offset, parameter.sizes(), strides_of(parameter));
}

}  // namespace

GradientBuckets::GradientBuckets(BufferPool& pool, std::vector<torch::Tensor> parameters,
                                 std::int64_t bucket_bytes)
    : pool_(pool) {
  const torch::NoGradGuard no_grad;
  for (auto& parameter : parameters) places_.push_back({std::move(parameter), {}});
  std::size_t first = 0;
  std::int64_t numel = 0;
  std::vector<std::int64_t> offsets;
  const auto close = [&](std::size_t end) {
    if (end == first) return;
    add_bucket(std::span(places_).subspan(first, end - first), offsets, numel);
    offsets.clear();
    numel = 0;
    first = end;
  };
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const auto& parameter = places_[i].parameter;
    const auto size = static_cast<std::int64_t>(parameter.element_size());
    const bool other_kind = parameter.dtype() != places_[first].parameter.dtype() ||
                            parameter.device() != places_[first].parameter.device();
    if (other_kind || (numel + parameter.numel()) * size > bucket_bytes) close(i);
    offsets.push_back(numel);
    const std::int64_t unit = kAlignment / size;
    numel += (parameter.numel() + unit - 1) / unit * unit;
  }
  close(places_.size());
}

void GradientBuckets::add_bucket(std::span<Place> places, std::span<const std::int64_t> offsets,
                                 std::int64_t numel) {
  const auto flat = pool_.take(numel, places.front().parameter);
  for (std::size_t i = 0; i < places.size(); ++i) {
    places[i].view = unrelated_view(flat, offsets[i], places[i].parameter);
    places[i].bucket = flats_.size();
  }
  flats_.push_back(flat);
}

std::vector<std::size_t> GradientBuckets::bucket_of() const {
  std::vector<std::size_t> buckets;
  buckets.reserve(places_.size());
  for (const auto& place : places_) buckets.push_back(place.bucket);
  return buckets;
}

bool GradientBuckets::is_of(std::span<const torch::Tensor> parameters) const {
  if (parameters.size() != places_.size()) return false;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    if (!places_[i].parameter.is_same(parameters[i])) return false;
  }
  return true;
}

void GradientBuckets::attach() {
  const torch::NoGradGuard no_grad;
  for (auto& flat : flats_) flat.zero_();
  for (auto& place : places_) {
    auto& gradient = place.parameter.mutable_grad();
    gradient = place.view;
    place.version = place.view._version();
    place.found = false;
  }
}

void GradientBuckets::collect() {
  for (std::size_t index = 0; index < places_.size(); ++index) collect(index);
}

void GradientBuckets::collect(std::size_t index) {
  const torch::NoGradGuard no_grad;
  auto& place = places_[index];
  auto& gradient = place.parameter.mutable_grad();
  if (gradient.is_same(place.view)) return;
  if (gradient.defined()) {
    place.view.copy_(gradient);
  } else {
    place.view.zero_();
  }
  place.found = gradient.defined();
  // What was in the view before has been dropped, and so has the mark that it left.
  place.version = place.view._version();
  gradient = place.view;
}

bool GradientBuckets::has_gradient(std::size_t index) const {
  const auto& place = places_[index];
  return place.found || place.view._version() != place.version;
}

void GradientBuckets::note_replay(const std::vector<bool>& found) {
  for (std::size_t i = 0; i < places_.size(); ++i) {
    auto& place = places_[i];
    place.parameter.mutable_grad() = place.view;
    place.version = place.view._version();
    place.found = found[i];
  }
}

void GradientBuckets::drop(std::size_t index) { places_[index].parameter.mutable_grad().reset(); }

GradientBuckets::~GradientBuckets() {
  const torch::NoGradGuard no_grad;
  for (auto& place : places_) {
    auto& gradient = place.parameter.mutable_grad();
    if (gradient.is_same(place.view)) gradient = gradient.clone();
  }
  for (auto& flat : flats_) pool_.give_back(std::move(flat));
}

}  // namespace torch_accelerated
