// SPDX-License-Identifier: Apache-2.0
#include "trainer/epoch_means.h"

#include <torch/torch.h>

#include <algorithm>
#include <cstring>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

/// A sum and its weight, of the micro-batches at one place.
struct Part {
  std::int64_t place;
  double sum;
  double weight;
};

void append(std::string& bytes, const void* data, std::size_t size) {
  bytes.append(static_cast<const char*>(data), size);
}

template <class Number>
Number read(std::string_view& bytes) {
  Number number;
  std::memcpy(&number, &bytes.front(), sizeof number);
  bytes.remove_prefix(sizeof number);
  return number;
}

using Parts = std::vector<std::pair<std::string, std::vector<Part>>>;

std::vector<Part>& parts_of(Parts& parts, std::string_view name) {
  const auto same_name = [name](const auto& entry) { return entry.first == name; };
  const auto place = std::find_if(parts.begin(), parts.end(), same_name);
  if (place != parts.end()) return place->second;
  return parts.emplace_back(name, std::vector<Part>()).second;
}

void unpack(std::string_view bytes, Parts& parts) {
  while (!bytes.empty()) {
    const auto length = read<std::size_t>(bytes);
    auto& of_name = parts_of(parts, bytes.substr(0, length));
    bytes.remove_prefix(length);
    for (auto count = read<std::size_t>(bytes); count > 0; --count) {
      of_name.push_back(read<Part>(bytes));
    }
  }
}

double mean_of(std::vector<Part>& parts) {
  std::stable_sort(parts.begin(), parts.end(),
                   [](const Part& a, const Part& b) { return a.place < b.place; });
  RunningMean mean;
  for (const auto& part : parts) mean.add(part.sum, part.weight);
  return mean.value();
}

// Of the shards of an update: room for 2^20 of them.
std::int64_t first_place(std::int64_t update) { return update << 20; }

Part part_of(std::int64_t place, const RunningMean& mean) {
  return {place, mean.sum(), mean.weight()};
}

}  // namespace

void EpochMeans::reset(std::optional<Shards> shards, bool by_update) {
  shards_ = shards;
  by_update_ = by_update;
  micro_batch_ = 0;
  entries_.clear();
}

EpochMeans::Entry& EpochMeans::entry(std::string_view name) {
  const auto same_name = [name](const Entry& entry) { return entry.name == name; };
  const auto place = std::find_if(entries_.begin(), entries_.end(), same_name);
  if (place != entries_.end()) return *place;
  entries_.push_back({std::string(name), {}, {}, {}});
  return entries_.back();
}

void EpochMeans::add(std::string_view name, const Mean& mean, std::int64_t rows) {
  auto& of_name = entry(name);
  if (!shards_) return (by_update_ ? of_name.of_update : of_name.mean).add(mean, rows);
  // What all ranks have in the place where they add: updates follow each other, and shards within.
  const auto& [rank, each] = *shards_;
  const std::int64_t place = first_place(micro_batch_ / each) + rank * each + micro_batch_ % each;
  if (of_name.of_shard.empty() || of_name.of_shard.back().first != place) {
    of_name.of_shard.emplace_back(place, RunningMean());
  }
  of_name.of_shard.back().second.add(mean, rows);
}

void EpochMeans::add(const StepOutput& output, std::int64_t rows) {
  if (output.loss.defined()) add("loss", output.loss, rows);
  for (const auto& [name, mean] : output.scalars) add(name, mean, rows);
}

void EpochMeans::end_update(bool counts) {
  if (!by_update_) return;
  for (auto& [name, mean, of_update, of_shard] : entries_) {
    if (counts) mean.add(of_update);
    of_update = RunningMean();
    if (counts || !shards_) continue;
    const auto first = first_place((micro_batch_ - 1) / shards_->each);
    while (!of_shard.empty() && of_shard.back().first >= first) of_shard.pop_back();
  }
}

TensorDict EpochMeans::sums() const {
  TensorDict sums;
  for (const auto& [name, mean, of_update, of_shard] : entries_) {
    std::vector<double> numbers;
    const auto add = [&](std::int64_t place, const RunningMean& part) {
      numbers.insert(numbers.end(), {static_cast<double>(place), part.sum(), part.weight()});
    };
    if (!shards_) add(0, mean);
    for (const auto& [place, part] : of_shard) add(place, part);
    sums.set(name, torch::tensor(numbers, torch::kFloat64).view({-1, 3}));
  }
  return sums;
}

void EpochMeans::add_sums(const TensorDict& sums) {
  for (const auto& [name, numbers] : sums) {
    if (numbers.dim() != 2 || numbers.size(1) != 3 || numbers.scalar_type() != torch::kFloat64) {
      throw CheckpointError(
          concat("the checkpoint's sums of '", name, "' are malformed; take another checkpoint"));
    }
    auto& of_name = entry(name);
    const auto* part = numbers.const_data_ptr<double>();
    for (std::int64_t i = 0; i < numbers.size(0); ++i, part += 3) {
      if (!shards_) {
        of_name.mean.add(part[1], part[2]);
        continue;
      }
      of_name.of_shard.emplace_back(static_cast<std::int64_t>(part[0]), RunningMean());
      of_name.of_shard.back().second.add(part[1], part[2]);
    }
  }
}

std::string EpochMeans::packed() const {
  std::string bytes;
  for (const auto& [name, mean, of_update, of_shard] : entries_) {
    std::vector<Part> parts;
    parts.reserve(of_shard.size() + 1);
    if (!shards_) parts.push_back(part_of(0, mean));
    for (const auto& [place, sums] : of_shard) parts.push_back(part_of(place, sums));
    const std::size_t length = name.size();
    const std::size_t count = parts.size();
    append(bytes, &length, sizeof length);
    append(bytes, name.data(), length);
    append(bytes, &count, sizeof count);
    append(bytes, parts.data(), count * sizeof(Part));
  }
  return bytes;
}

MetricValues EpochMeans::values(const std::vector<std::string>& packed, std::string_view prefix) {
  Parts parts;
  for (const auto& bytes : packed) unpack(bytes, parts);
  MetricValues values;
  for (auto& [name, of_name] : parts) {
    if (name == "loss") values.set(std::string(prefix) + name, mean_of(of_name));
  }
  for (auto& [name, of_name] : parts) values.set(std::string(prefix) + name, mean_of(of_name));
  return values;
}

}  // namespace torch_accelerated
