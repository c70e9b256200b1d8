// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/checkpoint_files.h"

#include <torch/torch.h>

#include <cstdio>
#include <utility>

#include "base/crc32c.h"
#include "base/text.h"
#include "checkpoint/checkpoint_folder.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/output_file.h"
#include "checkpoint/safetensors_header.h"
#include "checkpoint/state_text.h"
#include "checkpoint/tensor_file.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

constexpr const char* kModelFile = "model.safetensors";
constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kStateFile = "state.safetensors";
constexpr const char* kValuesFile = "state.json";
constexpr const char* kOptimizers = "optimizers";

ManifestFile write_tensors(FileIo& io, const std::filesystem::path& folder, const std::string& name,
                           const TensorDict& tensors) {
  const auto written = write_tensor_file(io, (folder / name).string(), tensors);
  return {name, written.bytes, written.crc};
}

State with_tensors(State values, const std::string& path) {
  const auto reader = open_tensors(path);
  for (const auto& [name, tensor] : read_tensors(*reader)) values.set_tensor(name, tensor);
  return values;
}

// The checksum of a whole safetensors file by what its header promises of each tensor, which is
// compared while they are read: a file that was exchanged for another is found without a reading of
// its own.
std::uint32_t promised_crc(const MappedFile& file) {
  const auto header = parse_safetensors_header(file.bytes(), file.bytes().size(), file.path());
  auto crc = crc32c(file.bytes().data(), header.data_offset);
  for (const auto& tensor : header.tensors) {
    crc = combine_crc32c(crc, tensor.crc.value_or(0), tensor.end - tensor.begin);
  }
  return crc;
}

std::uint32_t crc_of(const MappedFile& file) {
  if (!file.path().ends_with(".safetensors")) {
    return crc32c(file.bytes().data(), file.bytes().size());
  }
  try {
    return promised_crc(file);
  } catch (const DataError& error) {
    throw CheckpointError(error.what());
  }
}

bool holds(const Manifest& manifest, const std::string& name) {
  for (const auto& file : manifest.files) {
    if (file.name == name) return true;
  }
  return false;
}

}  // namespace

std::string rank_file(int rank) {
  char name[40];
  std::snprintf(name, sizeof name, "rank-%05d.safetensors", rank);
  return name;
}

std::vector<ManifestFile> write_contents(FileIo& io, const std::filesystem::path& folder,
                                         const CheckpointContents& contents) {
  std::vector<ManifestFile> files;
  files.push_back(write_tensors(io, folder, kModelFile, contents.model));
  files.push_back(write_tensors(io, folder, kOptimizerFile, contents.optimizers.tensors()));
  if (!contents.rest.tensors().empty()) {
    files.push_back(write_tensors(io, folder, kStateFile, contents.rest.tensors()));
  }
  State values = contents.rest;
  values.set_part(kOptimizers, contents.optimizers);
  const auto text = state_text(values.values());
  write_new_file(io, (folder / kValuesFile).string(), text);
  files.push_back({kValuesFile, text.size(), crc32c(text.data(), text.size())});
  return files;
}

ManifestFile write_rank(FileIo& io, const std::filesystem::path& folder, int rank,
                        const TensorDict& tensors) {
  return write_tensors(io, folder, rank_file(rank), tensors);
}

SavedCheckpoint::SavedCheckpoint(std::filesystem::path folder)
    : folder_(std::move(folder)), manifest_(read_manifest(folder_)) {
  check_files({folder_, manifest_}, /*contents=*/false);
  for (const auto& file : manifest_.files) {
    const MappedFile mapped((folder_ / file.name).string());
    if (crc_of(mapped) == file.crc32c) continue;
    throw CheckpointError(concat("'", mapped.path(),
                                 "' has other bytes than were written; the checkpoint is damaged, "
                                 "resume from another one"));
  }
  const MappedFile text(path_of(kValuesFile));
  for (auto& [name, value] : parse_state_text(text.bytes(), text.path())) {
    values_.set(name, std::move(value));
  }
}

std::string SavedCheckpoint::path_of(const std::string& name) const {
  if (holds(manifest_, name)) return (folder_ / name).string();
  throw CheckpointError(concat("checkpoint '", folder_.string(), "': its manifest has no '", name,
                               "', which was expected; use another checkpoint"));
}

std::unique_ptr<TensorReader> SavedCheckpoint::model() const {
  return open_tensors(path_of(kModelFile));
}

State SavedCheckpoint::optimizers() const {
  return with_tensors(values_.part(kOptimizers), path_of(kOptimizerFile));
}

State SavedCheckpoint::rest() const {
  if (!holds(manifest_, kStateFile)) return values_;
  return with_tensors(values_, path_of(kStateFile));
}

TensorDict SavedCheckpoint::rank(int rank) const {
  return read_tensors(*open_tensors(path_of(rank_file(rank))));
}

}  // namespace torch_accelerated
