// SPDX-License-Identifier: Apache-2.0
#include "distributed/contract.h"

#include "base/text.h"
#include "torch_accelerated/base/sha256.h"

namespace torch_accelerated {
namespace {

// Neither stands in names or numbers.
constexpr char kEndOfField = '\x1F';
constexpr char kEndOfValue = '\x1E';
constexpr std::size_t kDigestLength = 64;

using Fields = std::vector<std::pair<std::string, std::string>>;

std::string joined(const Fields& fields) {
  std::string text;
  for (const auto& [field, value] : fields) text += field + kEndOfField + value + kEndOfValue;
  return text;
}

Fields parted(const std::string& text) {
  Fields fields;
  for (std::size_t begin = 0; begin < text.size();) {
    const auto middle = text.find(kEndOfField, begin);
    const auto end = text.find(kEndOfValue, middle);
    fields.emplace_back(text.substr(begin, middle - begin),
                        text.substr(middle + 1, end - middle - 1));
    begin = end + 1;
  }
  return fields;
}

std::string digest(const std::string& text) {
  Sha256 hash;
  hash.update(text.data(), text.size());
  return hash.hex_digest();
}

std::string told(const Fields& fields, std::size_t index) {
  if (index >= fields.size()) return "nothing more";
  return concat(fields[index].first, " ", fields[index].second);
}

// The first thing in which `other` differs from rank 0.
std::string difference(const Fields& first, const Fields& other, std::size_t rank) {
  std::size_t i = 0;
  while (i < first.size() && i < other.size() && first[i] == other[i]) ++i;
  if (i < first.size() && i < other.size() && first[i].first == other[i].first) {
    return concat(first[i].first, " is ", first[i].second, " on rank 0 and ", other[i].second,
                  " on rank ", rank);
  }
  return concat("rank 0 has ", told(first, i), " where rank ", rank, " has ", told(other, i));
}

template <class SomeError>
[[noreturn]] void throw_on_all_ranks(SomeError error) {
  error.set_on_all_ranks();
  throw error;
}

// What the first rank that refuses says, with its number unless all say the same.
[[noreturn]] void throw_refusal(const std::vector<std::string>& digests, std::size_t rank) {
  const auto refusal = digests[rank].substr(kDigestLength);
  bool of_all = true;
  for (const auto& other : digests) of_all = of_all && other.substr(kDigestLength) == refusal;
  const auto space = refusal.find(' ');
  const auto code = static_cast<ExitCode>(std::stoi(refusal.substr(0, space)));
  const auto text = of_all ? refusal.substr(space + 1)
                           : concat(refusal.substr(space + 1), " (on rank ", rank, ")");
  if (code == ExitCode::kOptions) throw_on_all_ranks(ArgumentError(text));
  throw_on_all_ranks(CommunicationError(text, code));
}

}  // namespace

void Contract::add(std::string_view field, std::string_view value) {
  fields_.emplace_back(field, value);
}

void Contract::refuse(const std::string& problem, ExitCode exit_code) {
  problem_ = problem.empty() ? "an error without a text" : problem;
  exit_code_ = exit_code;
}

void Contract::check(Communicator& control) const {
  const auto mine = joined(fields_);
  const auto digests = control.all_gather(
      digest(mine) + (problem_.empty() ? "" : concat(static_cast<int>(exit_code_), ' ', problem_)));
  bool equal = true;
  for (const auto& other : digests) {
    equal = equal && other.compare(0, kDigestLength, digests[0], 0, kDigestLength) == 0;
  }
  for (std::size_t rank = 0; rank < digests.size(); ++rank) {
    if (digests[rank].size() > kDigestLength) throw_refusal(digests, rank);
  }
  if (equal) return;
  const auto texts = control.all_gather(mine);
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    if (texts[rank] == texts[0]) continue;
    throw_on_all_ranks(CommunicationError(
        concat(call_, ": ", difference(parted(texts[0]), parted(texts[rank]), rank),
               "; all ranks have to make the same objects and ask for the same"),
        ExitCode::kMismatch));
  }
}

}  // namespace torch_accelerated
