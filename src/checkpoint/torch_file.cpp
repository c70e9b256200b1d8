// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/torch_file.h"

#include <algorithm>
#include <utility>

#include "checkpoint/state_dict_pickle.h"
#include "checkpoint/strided_copy.h"
#include "checkpoint/torch_file_text.h"

namespace torch_accelerated {
namespace {

constexpr std::string_view kPickleName = "/data.pkl";

// What no archive begins as, told by what it is instead.
std::string_view checked_kind(std::string_view bytes, std::string_view file_name) {
  constexpr std::string_view kLegacyMagic =
      "\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19";  // of torch.save before 1.6
  if (bytes.starts_with("PK")) return bytes;
  const auto refuse = [&](std::string_view what) {
    refuse_torch_file(file_name, "it is ", what, ", expected the zip archive of torch >= 1.6; ",
                      kTorchSaveCure, ".");
  };
  if (bytes.substr(0, 64).find(kLegacyMagic) != std::string_view::npos) {
    refuse("in torch's old format, which is a pickle");
  }
  if (bytes.starts_with("\x80")) refuse("a plain pickle, which is never read");
  refuse_torch_file(file_name, "it begins with '", shown(bytes.substr(0, 8)),
                    "', expected 'PK' as a zip archive does; download or copy the file again.");
}

// The folder in the archive in which everything is.
std::string prefix_of(const StoredZip& zip, std::string_view file_name) {
  const StoredZipEntry* pickle = nullptr;
  for (const StoredZipEntry& entry : zip.entries()) {
    if (!entry.name.ends_with(kPickleName)) continue;
    if (pickle != nullptr) {
      refuse_torch_file(file_name, "it holds the pickles '", shown(pickle->name), "' and '",
                        shown(entry.name), "', expected one; ", kTorchSaveCure, ".");
    }
    pickle = &entry;
  }
  if (pickle == nullptr) {
    refuse_torch_file(file_name, "it is a zip archive without a data.pkl, expected one of ",
                      "torch.save's; ", kTorchSaveCure, ".");
  }
  return std::string(pickle->name.substr(0, pickle->name.size() - kPickleName.size()));
}

// Names what to choose from where the weights are one level below, perhaps beside a single tensor
// such as a loss.
void refuse_dict_of_dicts(const StateDictPickle& dict, std::string_view key,
                          std::string_view file_name) {
  constexpr std::size_t kShownBytes = 1000;
  std::size_t inner = 0;
  std::string names;
  for (const PickledDict& each : dict.dicts) {
    inner += each.tensors;
    if (names.size() > kShownBytes) continue;
    names += concat(names.empty() ? "'" : ", '", shown(each.name), "' (", each.tensors, ")");
  }
  const bool is_empty = dict.tensors.empty() && !dict.dicts.empty();
  if (!is_empty && (!key.empty() || inner <= dict.tensors.size())) return;
  refuse_torch_file(file_name, key.empty() ? "it" : concat("its '", shown(key), "'"),
                    " is a dict of dicts, with the tensors in each: ", names,
                    "; give the key of the one that holds the weights.");
}

std::uint64_t value_bytes(SafetensorsDtype dtype) { return safetensors_bits(dtype) / 8; }

}  // namespace

TorchFile::TorchFile(std::string_view bytes, std::string file_name, std::string_view key)
    : file_name_(std::move(file_name)), zip_(checked_kind(bytes, file_name_), file_name_) {
  const std::string prefix = prefix_of(zip_, file_name_);
  check_format(prefix);
  const StoredZipEntry& pickle = *zip_.find(concat(prefix, kPickleName));
  zip_.check(pickle);
  is_checked_.resize(zip_.entries().size());
  add_tensors(prefix, pickle.bytes, key);
}

void TorchFile::check_format(const std::string& prefix) const {
  const std::string code = prefix + "/code/";
  const bool has_code =
      std::any_of(zip_.entries().begin(), zip_.entries().end(),
                  [&](const StoredZipEntry& entry) { return entry.name.starts_with(code); });
  if (has_code || zip_.find(prefix + "/constants.pkl") != nullptr) {
    refuse_torch_file(file_name_,
                      "it is a TorchScript archive, which holds a program, expected "
                      "tensors only; ",
                      kTorchSaveCure, ".");
  }
  if (const StoredZipEntry* order = zip_.find(prefix + "/byteorder")) {
    zip_.check(*order);
    if (order->bytes != "little") {
      refuse_torch_file(file_name_, "its byte order is '", shown(order->bytes),
                        "', expected 'little'; write it again on a little-endian machine.");
    }
  }
  if (const StoredZipEntry* version = zip_.find(prefix + "/version")) {
    zip_.check(*version);
    constexpr std::string_view kKnown = "123456789";
    const std::string_view text = version->bytes.substr(0, version->bytes.find('\n'));
    if (text != "10" && (text.size() != 1 || kKnown.find(text) == std::string_view::npos)) {
      refuse_torch_file(file_name_, "its format's version is '", shown(text),
                        "', expected one of 1 to 10; write it again with torch 2.");
    }
  }
}

void TorchFile::add_tensors(std::string_view prefix, std::string_view pickle,
                            std::string_view key) {
  StateDictPickle dict = read_state_dict_pickle(pickle, file_name_, key);
  refuse_dict_of_dicts(dict, key, file_name_);
  tensors_.reserve(dict.tensors.size());
  for (PickledTensor& tensor : dict.tensors) {
    const auto refuse = [&](const auto&... parts) {
      refuse_torch_file(file_name_, "tensor '", shown(tensor.name), "': ", parts...);
    };
    const StoredZipEntry* storage = zip_.find(concat(prefix, "/data/", tensor.storage));
    if (storage == nullptr || storage->bytes.size() != tensor.storage_bytes) {
      refuse("its storage '", shown(tensor.storage), "' has ",
             storage == nullptr ? 0 : storage->bytes.size(), " bytes in the archive, expected ",
             tensor.storage_bytes, "; download or copy the file again.");
    }
    const auto bytes = safetensors_bytes(tensor.dtype, tensor.shape);
    if (!bytes || !fits_storage(tensor.shape, tensor.strides, tensor.offset,
                                tensor.storage_bytes / value_bytes(tensor.dtype))) {
      refuse("its sizes and strides from ", tensor.offset, " on lead beyond the ",
             tensor.storage_bytes, " bytes of its storage; download or copy the file again.");
    }
    const auto position = static_cast<std::size_t>(storage - zip_.entries().data());
    tensors_.push_back({std::move(tensor.name), tensor.dtype, std::move(tensor.shape), *bytes,
                        tensor.requires_grad, std::move(tensor.strides), tensor.offset, position});
  }
  skipped_ = std::move(dict.skipped);
  for (PickledDict& inner : dict.dicts) skipped_.push_back(std::move(inner.name));
}

void TorchFile::check(const TorchFileTensor& tensor) const {
  const std::vector<StoredZipEntry>& entries = zip_.entries();
  if (value_bytes(tensor.dtype) == 0 || tensor.storage >= entries.size() ||
      tensor.strides.size() != tensor.shape.size() ||
      tensor.bytes != safetensors_bytes(tensor.dtype, tensor.shape) ||
      !fits_storage(tensor.shape, tensor.strides, tensor.offset,
                    entries[tensor.storage].bytes.size() / value_bytes(tensor.dtype))) {
    throw ArgumentError(concat("TorchFile: the tensor '", shown(tensor.name),
                               "' is not of this file, expected one of tensors()."));
  }
  if (!is_checked_[tensor.storage]) zip_.check(entries[tensor.storage]);
  is_checked_[tensor.storage] = true;
}

void TorchFile::copy(const TorchFileTensor& tensor, void* destination) const {
  check(tensor);
  copy_strided(tensor.shape, tensor.strides, tensor.offset, zip_.entries()[tensor.storage].bytes,
               static_cast<std::size_t>(value_bytes(tensor.dtype)), destination);
  if (tensor.dtype != SafetensorsDtype::kBool) return;
  // Other bytes than 0 and 1 are no C++ bool.
  auto* values = static_cast<unsigned char*>(destination);
  for (std::uint64_t i = 0; i < tensor.bytes; ++i) values[i] = values[i] != 0 ? 1 : 0;
}

}  // namespace torch_accelerated
