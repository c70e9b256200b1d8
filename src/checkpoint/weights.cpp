// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/checkpoint/weights.h"

#include <torch/torch.h>

#include <unistd.h>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "base/text.h"
#include "checkpoint/output_file.h"
#include "checkpoint/safetensors_text.h"
#include "checkpoint/tensor_file.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

// Every name of every tensor, also the second one of a shared tensor, as Python's state dicts have.
TensorDict all_tensors(const torch::nn::Module& module) {
  TensorDict tensors;
  for (const auto& item : module.named_parameters()) tensors.set(item.key(), item.value());
  for (const auto& item : module.named_buffers()) {
    if (item.value().defined()) tensors.set(item.key(), item.value());
  }
  return tensors;
}

// What the module calls a tensor of the file; nothing where it isn't looked at.
std::optional<std::string> own_name(std::string_view name, const LoadWeightsOptions& options) {
  if (!name.starts_with(options.prefix)) return std::nullopt;
  name.remove_prefix(options.prefix.size());
  for (const auto& [from, to] : options.rename) {
    if (name.starts_with(from)) return to + std::string(name.substr(from.size()));
  }
  return std::string(name);
}

bool is_skipped(const std::string& name, const LoadWeightsOptions& options) {
  return std::any_of(options.skip.begin(), options.skip.end(),
                     [&](const std::string& beginning) { return name.starts_with(beginning); });
}

/// Which tensor of the file goes into which of the module.
struct Plan {
  std::vector<std::pair<const SafetensorsEntry*, torch::Tensor>> copies;
  LoadReport report;
};

Plan planned(const TensorReader& reader, const TensorDict& tensors,
             const LoadWeightsOptions& options) {
  Plan plan;
  std::unordered_map<std::string, torch::Tensor> by_name;
  for (const auto& [name, tensor] : tensors) by_name.emplace(name, tensor);
  std::unordered_set<const c10::TensorImpl*> found;
  std::unordered_set<std::string> names;
  for (const auto& entry : reader.tensors()) {
    const auto name = own_name(entry.name, options);
    if (!name || is_skipped(*name, options)) continue;
    const auto own = by_name.find(*name);
    // A second tensor of a name comes from `rename`.
    if (own == by_name.end() || !names.insert(*name).second) {
      plan.report.unexpected.push_back(*name);
      continue;
    }
    const auto& tensor = own->second;
    // A shared tensor is written once, and what another of its names has must fit all the same.
    const bool is_new = found.insert(tensor.unsafeGetTensorImpl()).second;
    if (entry.shape != tensor.sizes().vec()) {
      plan.report.mismatched.push_back(
          concat("'", *name, "' (", described(tensor), ", in the file ", described(entry), ")"));
    } else if (is_new) {
      plan.copies.emplace_back(&entry, tensor);
    }
  }
  for (const auto& [name, tensor] : tensors) {
    if (is_skipped(name, options) || found.count(tensor.unsafeGetTensorImpl()) > 0) continue;
    plan.report.missing.push_back(name);
  }
  plan.report.loaded = plan.copies.size();
  return plan;
}

std::vector<std::string> quoted(std::vector<std::string> names) {
  for (auto& name : names) name = concat("'", shown(name), "'");
  return names;
}

void add_names(std::string& text, const char* what, const std::vector<std::string>& names) {
  if (names.empty()) return;
  text += concat("; ", what, ": ");
  for (const auto& name : names) text += &name == &names.front() ? name : ", " + name;
}

}  // namespace

std::string LoadReport::text() const {
  auto text = concat(loaded, loaded == 1 ? " tensor loaded" : " tensors loaded");
  add_names(text, "missing", quoted(missing));
  add_names(text, "unexpected", quoted(unexpected));
  add_names(text, "mismatched", mismatched);
  return text;
}

void save_weights(const torch::nn::Module& module, const std::filesystem::path& file) {
  if (file.empty() || !file.has_filename()) {
    throw ArgumentError(concat("save_weights: '", file.string(), "' names no file"));
  }
  const auto beside = concat(file.string(), ".", ::getpid(), ".tmp");
  auto& io = system_io();
  io.remove(beside);  // of a process of this number that was killed
  write_tensor_file(io, beside, all_tensors(module));
  rename_file(io, beside, file.string());
}

LoadReport load_weights(torch::nn::Module& module, const std::filesystem::path& file,
                        const LoadWeightsOptions& options) {
  const auto reader = open_tensors(file.string(), options.key);
  auto plan = planned(*reader, all_tensors(module), options);
  if (options.strict && !plan.report.is_complete()) {
    plan.report.loaded = 0;
    throw CheckpointError(concat("load_weights: '", file.string(),
                                 "' doesn't fit the module: ", plan.report.text(),
                                 "; give prefix, rename or skip, or strict = false"));
  }
  // All of it first, so that a damaged file changes nothing.
  for (const auto& copy : plan.copies) check_tensor(*reader, *copy.first);
  for (const auto& [entry, tensor] : plan.copies) read_into(*reader, *entry, tensor);
  return plan.report;
}

}  // namespace torch_accelerated
