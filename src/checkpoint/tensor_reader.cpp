// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/tensor_reader.h"

#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "checkpoint/mapped_file.h"
#include "checkpoint/safetensors_set.h"
#include "checkpoint/torch_file.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

/// Safetensors files.
class SetReader : public TensorReader {
 public:
  explicit SetReader(const std::string& path) : set_(path) {
    entries_.reserve(set_.tensors().size());
    for (const auto* tensor : set_.tensors()) entries_.push_back(*tensor);
  }

  const std::string& path() const override { return set_.path(); }
  const std::vector<SafetensorsEntry>& tensors() const override { return entries_; }
  void copy(const SafetensorsEntry& entry, void* destination) const override {
    set_.copy(own(entry), destination);
  }
  void check(const SafetensorsEntry& entry) const override { set_.check(own(entry)); }

 private:
  const SafetensorsEntry& own(const SafetensorsEntry& entry) const {
    return *set_.tensors()[static_cast<std::size_t>(&entry - entries_.data())];
  }

  SafetensorsSet set_;
  std::vector<SafetensorsEntry> entries_;  // in the order of set_.tensors()
};

/// What Python's torch.save wrote.
class TorchReader : public TensorReader {
 public:
  TorchReader(MappedFile file, const std::string& key)
      : file_(std::move(file)), tensors_(file_.bytes(), file_.path(), key) {
    entries_.reserve(tensors_.tensors().size());
    for (const auto& tensor : tensors_.tensors()) {
      SafetensorsEntry entry;
      entry.name = tensor.name;
      entry.dtype = tensor.dtype;
      entry.shape = tensor.shape;
      entry.end = tensor.bytes;
      entries_.push_back(std::move(entry));
    }
  }

  const std::string& path() const override { return file_.path(); }
  const std::vector<SafetensorsEntry>& tensors() const override { return entries_; }
  void copy(const SafetensorsEntry& entry, void* destination) const override {
    tensors_.copy(own(entry), destination);
  }
  void check(const SafetensorsEntry& entry) const override { tensors_.check(own(entry)); }

 private:
  const TorchFileTensor& own(const SafetensorsEntry& entry) const {
    return tensors_.tensors()[static_cast<std::size_t>(&entry - entries_.data())];
  }

  MappedFile file_;
  TorchFile tensors_;
  std::vector<SafetensorsEntry> entries_;  // in the order of tensors_.tensors()
};

// A zip archive, or the pickle that torch.save wrote before it made archives. The length that a
// safetensors file begins with may have the same low bytes, but not the ones that follow.
bool is_of_torch(std::string_view bytes) {
  const bool is_safetensors = bytes.substr(0, 9).ends_with(std::string_view("\0\0\0\0{", 5));
  return !is_safetensors && (bytes.starts_with("PK") || bytes.starts_with("\x80"));
}

}  // namespace

std::unique_ptr<TensorReader> open_tensors(const std::string& path, const std::string& key) {
  std::error_code ignored;
  const bool is_set = std::filesystem::is_directory(path, ignored) || path.ends_with(".json");
  if (!is_set) {
    MappedFile file(path);
    if (is_of_torch(file.bytes())) return std::make_unique<TorchReader>(std::move(file), key);
  }
  try {
    return std::make_unique<SetReader>(path);
  } catch (const CheckpointError&) {
    throw;
  } catch (const DataError& error) {
    throw CheckpointError(error.what());
  }
}

}  // namespace torch_accelerated
